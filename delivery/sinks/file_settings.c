/* file_settings.c - see file_settings.h. */
#include "file_settings.h"

#include <stdlib.h>

#include "config.h"
#include "file_names.h"
#include "file_parts.h"
#include "sinks.h"

static const char *const compress_names[] = {"none", "zstd", NULL};
static const char *const flush_names[] = {"checkpoint", "batch", "none", NULL};

static int parse_mode(const char *text, mode_t *ret)
{
    char *end;
    unsigned long mode = strtoul(text, &end, 8);
    if (*end || end == text || mode > 0777 || *text == '-')
        return spool_sink_error(SPOOL_ECONFIG, "configuration of the file sink: \"mode\" must be octal, as \"0640\"");
    *ret = (mode_t)mode;
    return SPOOL_OK;
}

/* What files are complete can only be told where every name can. */
static int check_tending(struct file_settings *s)
{
    char conversion;
    int code = parts_check(s->pattern, &s->has_parts);
    if (code != SPOOL_OK)
        return code;
    s->tending.has_parts = s->has_parts;
    bool any = s->tending.compress || s->tending.max_age_ms > 0 || s->tending.max_bytes > 0;
    if (s->has_parts && (any || s->rotate_bytes > 0 || s->rotate_ms > 0 || s->keep > 0) &&
        !parts_can_number(s->pattern))
        return spool_sink_error(SPOOL_ECONFIG,
                                "configuration of the file sink: \"path\": with rotate_bytes, rotate_interval, keep, "
                                "compress, max_age or max_bytes the file's own name needs some text between a "
                                "placeholder and the extension: {agent}/events.jsonl or {agent}.events.jsonl");
    if (any && !file_names_can(s->pattern, &conversion))
        return spool_sink_error(
            SPOOL_ECONFIG,
            "configuration of the file sink: \"path\": compress, max_age and max_bytes need a path whose "
            "names can be told: not with %%%c",
            conversion);
    if (s->tending.level < 1 || s->tending.level > 19)
        return spool_sink_error(SPOOL_ECONFIG, "configuration of the file sink: \"compress_level\" must be 1 to 19");
    return SPOOL_OK;
}

static int configure_tending(struct file_settings *s, struct config *c)
{
    uint64_t level = 3;
    int compress = 0;
    int code = config_choice(c, "compress", compress_names, 0, &compress);
    if (code == SPOOL_OK)
        code = config_number(c, "compress_level", 3, &level);
    if (code == SPOOL_OK)
        code = config_duration_ms(c, "max_age", 0, &s->tending.max_age_ms);
    if (code == SPOOL_OK)
        code = config_bytes(c, "max_bytes", 0, &s->tending.max_bytes);
    s->tending.compress = compress == 1;
    s->tending.level = level <= 19 ? (int)level : 0;
    s->tending.pattern = s->pattern;
    s->tending.rotate_ms = s->rotate_ms;
    return code == SPOOL_OK ? check_tending(s) : code;
}

int file_settings_read(const char *json, struct file_settings *s)
{
    struct config c;
    char *mode = NULL;
    int code = config_open(&c, "file", json);
    if (code == SPOOL_OK)
        code = config_text(&c, "path", NULL, &s->pattern);
    if (code == SPOOL_OK)
        code = config_bytes(&c, "rotate_bytes", 0, &s->rotate_bytes);
    if (code == SPOOL_OK)
        code = config_duration_ms(&c, "rotate_interval", 0, &s->rotate_ms);
    if (code == SPOOL_OK)
        code = config_choice(&c, "flush", flush_names, FLUSH_CHECKPOINT, &s->flush);
    if (code == SPOOL_OK)
        code = config_number(&c, "keep", 0, &s->keep);
    if (code == SPOOL_OK)
        code = configure_tending(s, &c);
    if (code == SPOOL_OK)
        code = config_text(&c, "mode", "0640", &mode);
    if (code == SPOOL_OK)
        code = parse_mode(mode, &s->mode);
    free(mode);
    return config_close(&c, code);
}

void file_settings_free(struct file_settings *settings)
{
    free(settings->pattern);
    settings->pattern = NULL;
}

int file_check(const char *json_config)
{
    struct file_settings settings = {0};
    int code = file_settings_read(json_config, &settings);
    file_settings_free(&settings);
    return code;
}

const struct spool_sink_setting file_settings[] = {
    {"path", "text (required)", "the file; strftime in UTC, and {agent}, {type}, {session}, {priority}"},
    {"rotate_bytes", "size, 0", "begin the next file when one would grow beyond that; 0: never"},
    {"rotate_interval", "duration, 0", "begin the next file when one is as old as that; 0: never"},
    {"flush", "checkpoint | batch | none, checkpoint", "when a file is flushed to the disk"},
    {"mode", "octal text, \"0640\"", "permission bits of new files"},
    {"keep", "number, 0", "files of one name that are kept; 0: all"},
    {"compress", "none | zstd, none", "what becomes of complete files"},
    {"compress_level", "1 to 19, 3", "of zstd"},
    {"max_age", "duration, 0", "complete files older than that are deleted; 0: never"},
    {"max_bytes", "size, 0", "the oldest complete files are deleted when all take more; 0: never"},
    {NULL, NULL, NULL},
};
