/* standalone_main.c - runs a target over files, or over standard input: for compilers without libFuzzer, for replaying
 * what was found, and for a debugger.
 *
 *     gcc … fuzz_json.c standalone_main.c libspool-inside.a …;  ./fuzz_json tests/fuzz/regress/json/… */
#include "fuzz.h"

enum { INPUT_MAX = 1 << 20 };

static int run_stream(FILE *file, const char *name)
{
    uint8_t *data = malloc(INPUT_MAX);
    if (!file || !data) {
        fprintf(stderr, "%s: cannot read it\n", name);
        free(data);
        return 1;
    }
    size_t size = fread(data, 1, INPUT_MAX, file);
    /* In an allocation of its very size, so that valgrind and the sanitizers see a read beyond it. */
    uint8_t *exact = malloc(size ? size : 1);
    if (exact) {
        memcpy(exact, data, size);
        LLVMFuzzerTestOneInput(exact, size);
    }
    free(exact);
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    int failed = 0;
    if (argc == 1)
        return run_stream(stdin, "standard input");
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rbe");
        failed |= run_stream(file, argv[i]);
        if (file)
            fclose(file);
    }
    if (!failed)
        printf("%d inputs\n", argc - 1);
    return failed;
}
