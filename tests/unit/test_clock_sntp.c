/* test_clock_sntp.c - SNTP: the packets, and a server on loopback that lies, refuses, replays or says nothing. */
#include "clock_fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "../../clock/sntp.h"
#include "../../lib/base/bytes.h"

#define NONCE 0x0123456789abcdefull
#define TO_1900_S 2208988800ull

static uint64_t ntp_time(uint64_t unix_ns)
{
    uint64_t rest = unix_ns % SECOND;
    return (unix_ns / SECOND + TO_1900_S) << 32 | ((rest << 32) / SECOND);
}

/* A good answer: stratum 2, 1 ms from its root. */
static void good(uint8_t p[SNTP_SIZE], uint64_t nonce, uint64_t at_ns)
{
    memset(p, 0, SNTP_SIZE);
    p[0] = 0 << 6 | 4 << 3 | 4;
    p[1] = 2;
    p[3] = (uint8_t)-20;
    put_be64(p + 4, 66ull << 32 | 33);
    memcpy(p + 12, "\xc0\x00\x02\x01", 4);
    put_be64(p + 16, ntp_time(at_ns - 10 * SECOND));
    put_be64(p + 24, nonce);
    put_be64(p + 32, ntp_time(at_ns));
    put_be64(p + 40, ntp_time(at_ns + 1000));
}

static int check(const uint8_t *p, size_t size, struct sntp_reply *ret)
{
    return sntp_check(p, size, NONCE, START_NS, ret);
}

START_TEST(test_request_tells_nothing_but_the_nonce)
{
    uint8_t p[SNTP_SIZE];
    sntp_request(NONCE, p);
    ck_assert_uint_eq(p[0], 0x23);
    ck_assert_uint_eq(get_be64(p + 40), NONCE);
    for (int i = 1; i < 40; i++)
        ck_assert_uint_eq(p[i], 0);
}
END_TEST

START_TEST(test_good_answer)
{
    uint8_t p[SNTP_SIZE + 20] = {0};
    struct sntp_reply r;
    good(p, NONCE, START_NS);
    ck_ok(check(p, SNTP_SIZE, &r));
    ck_ok(check(p, SNTP_SIZE + 20, &r)); /* with a MAC */
    ck_assert_uint_eq(r.stratum, 2);
    ck_assert_uint_eq(r.reference_id, 0xc0000201);
    ck_assert_int_eq(r.leap, 0);
    ck_assert_uint_le(START_NS - r.receive_ns, 1); /* a fraction is cut */
    ck_assert_uint_ge(r.distance_ns, (66 / 2 + 33) * SECOND / 65536);
    ck_assert_uint_lt(r.distance_ns, 2 * NS_PER_MS);
    p[0] = 1 << 6 | 3 << 3 | 4;
    ck_ok(check(p, SNTP_SIZE, &r));
    ck_assert_int_eq(r.leap, 1);
    p[0] = 2 << 6 | 4 << 3 | 4;
    ck_ok(check(p, SNTP_SIZE, &r));
    ck_assert_int_eq(r.leap, -1);
}
END_TEST

/* What is not an answer to this request is passed over: a bad one would let anybody silence the good. */
START_TEST(test_no_answers)
{
    uint8_t p[SNTP_SIZE];
    struct sntp_reply r;
    good(p, NONCE, START_NS);
    for (size_t n = 0; n < SNTP_SIZE; n++)
        ck_code(check(p, n, &r), SPOOL_ESTALE);
    good(p, NONCE ^ 1, START_NS);
    ck_code(check(p, SNTP_SIZE, &r), SPOOL_ESTALE);
    for (uint8_t mode = 0; mode < 8; mode++) {
        good(p, NONCE, START_NS);
        p[0] = (uint8_t)(4 << 3 | mode);
        ck_code(check(p, SNTP_SIZE, &r), mode == 4 ? SPOOL_OK : SPOOL_ESTALE);
        p[0] = (uint8_t)(mode << 3 | 4); /* the version */
        ck_code(check(p, SNTP_SIZE, &r), mode == 3 || mode == 4 ? SPOOL_OK : SPOOL_ESTALE);
    }
    sntp_request(NONCE, p); /* our own, sent back */
    ck_code(check(p, SNTP_SIZE, &r), SPOOL_ESTALE);
}
END_TEST

struct flaw {
    const char *what;
    size_t at, size;
    const char *bytes;
    int code;
};

START_TEST(test_answers_that_are_worth_nothing)
{
    static const struct flaw flaws[] = {
        {"leap 3", 0, 1, "\xe4", SPOOL_EUNAVAILABLE},
        {"stratum 16", 1, 1, "\x10", SPOOL_EUNAVAILABLE},
        {"stratum 255", 1, 1, "\xff", SPOOL_EUNAVAILABLE},
        {"root delay 40 s", 4, 4, "\x00\x28\x00\x00", SPOOL_EUNAVAILABLE},
        {"root dispersion 16 s", 8, 4, "\x00\x10\x00\x00", SPOOL_EUNAVAILABLE},
        {"root dispersion 65535 s", 8, 4, "\xff\xff\xff\xff", SPOOL_EUNAVAILABLE},
        {"no receive time", 32, 8, "\0\0\0\0\0\0\0\0", SPOOL_EUNAVAILABLE},
        {"no transmit time", 40, 8, "\0\0\0\0\0\0\0\0", SPOOL_EUNAVAILABLE},
        {"sent before it came", 40, 1, "\xe0", SPOOL_EUNAVAILABLE},
        {"reference later", 16, 1, "\xff", SPOOL_EUNAVAILABLE},
        {"negative root delay", 4, 4, "\xff\xff\xff\xff", SPOOL_OK},
    };
    for (size_t i = 0; i < sizeof flaws / sizeof *flaws; i++) {
        uint8_t p[SNTP_SIZE];
        struct sntp_reply r;
        good(p, NONCE, START_NS);
        memcpy(p + flaws[i].at, flaws[i].bytes, flaws[i].size);
        int code = check(p, SNTP_SIZE, &r);
        ck_assert_msg(code == flaws[i].code, "%s: %s (%s)", flaws[i].what, spool_error_name(code), spool_last_error());
    }
}
END_TEST

START_TEST(test_kiss_of_death)
{
    static const struct flaw kisses[] = {{.bytes = "DENY", .code = SPOOL_EREJECTED},
                                         {.bytes = "RSTR", .code = SPOOL_EREJECTED},
                                         {.bytes = "RATE", .code = SPOOL_EBUSY},
                                         {.bytes = "STEP", .code = SPOOL_EUNAVAILABLE},
                                         {.bytes = "\x1b[2J", .code = SPOOL_EUNAVAILABLE}};
    for (size_t i = 0; i < sizeof kisses / sizeof *kisses; i++) {
        uint8_t p[SNTP_SIZE];
        struct sntp_reply r;
        good(p, NONCE, START_NS);
        p[1] = 0;
        memcpy(p + 12, kisses[i].bytes, 4);
        ck_code(check(p, SNTP_SIZE, &r), kisses[i].code);
        ck_assert(!strchr(spool_last_error(), 27));
        put_be64(p + 24, NONCE + 1); /* nobody else may send us away */
        ck_code(check(p, SNTP_SIZE, &r), SPOOL_ESTALE);
    }
}
END_TEST

/* Seconds since 1900 in 32 bits end in 2036. */
START_TEST(test_eras)
{
    static const uint64_t years[] = {START_NS, 2082758400ull * SECOND, 2100000000ull * SECOND, 3000000000ull * SECOND,
                                     4500000000ull * SECOND};
    for (size_t i = 0; i < sizeof years / sizeof *years; i++) {
        uint8_t p[SNTP_SIZE];
        struct sntp_reply r;
        good(p, NONCE, years[i]);
        ck_ok(sntp_check(p, SNTP_SIZE, NONCE, years[i] - 86400 * SECOND, &r));
        ck_assert_uint_le(years[i] - r.receive_ns, 1);
    }
}
END_TEST

/* The way there and back may be as unequal as it likes: the true time is in the interval. */
START_TEST(test_sample)
{
    for (uint64_t there = 0; there <= 100 * NS_PER_MS; there += 10 * NS_PER_MS) {
        uint64_t back = 100 * NS_PER_MS - there, kept = 5 * NS_PER_MS, sent = 77 * SECOND;
        const struct sntp_reply r = {.receive_ns = START_NS + there,
                                     .transmit_ns = START_NS + there + kept,
                                     .distance_ns = NS_PER_MS,
                                     .stratum = 3};
        struct spool_clock_sample s = {.size = sizeof s};
        ck_ok(sntp_sample(&r, there + kept + back, sent + there + kept + back, &s));
        uint64_t truth = START_NS + there + kept + back;
        uint64_t off = s.unix_ns > truth ? s.unix_ns - truth : truth - s.unix_ns;
        ck_assert_uint_le(off, s.error_ns);
        ck_assert_uint_le(s.error_ns, 50 * NS_PER_MS + NS_PER_MS + 60000);
        ck_assert_uint_eq(s.boot_ns, sent + there + kept + back);
    }
    const struct sntp_reply longer = {.receive_ns = START_NS, .transmit_ns = START_NS + SECOND};
    struct spool_clock_sample s;
    ck_code(sntp_sample(&longer, SECOND / 2, 5, &s), SPOOL_EUNAVAILABLE);
    ck_code(sntp_sample(&longer, 0, 5, &s), SPOOL_EUNAVAILABLE);
}
END_TEST

/* ---------------------------------------------------------------------------------------------------- a fake server */

enum manner { HONEST, SILENT, WRONG_NONCE, WRONG_THEN_HONEST, DENY, RATE, UNSYNCHRONISED, SHORT, REPLAY, FAR };

struct server {
    int fd;
    uint16_t port;
    pthread_t thread;
    _Atomic int manner, asked;
    _Atomic bool stop;
    _Atomic int64_t offset_ns;
    _Atomic uint8_t reference; /* the last byte of its reference id */
    uint8_t first[SNTP_SIZE];  /* the first answer, to be replayed; the thread's */
    _Atomic uint64_t nonces[64];
};

static void make_answer(struct server *s, enum manner manner, const uint8_t *request, uint8_t p[SNTP_SIZE])
{
    good(p, get_be64(request + 40), real_ns() + (uint64_t)atomic_load(&s->offset_ns));
    p[15] = (uint8_t)(p[15] + atomic_load(&s->reference));
    if (manner == WRONG_NONCE)
        p[24] ^= 1;
    if (manner == UNSYNCHRONISED)
        p[0] |= 3 << 6;
    if (manner == FAR)
        put_be64(p + 4, 40ull << 48);
    if (manner == DENY || manner == RATE) {
        p[1] = 0;
        memcpy(p + 12, manner == DENY ? "DENY" : "RATE", 4);
    }
    if (manner == REPLAY)
        memcpy(p, s->first, SNTP_SIZE);
    else if (!s->first[0])
        memcpy(s->first, p, SNTP_SIZE);
}

static void serve_one(struct server *s)
{
    struct sockaddr_in from;
    socklen_t from_size = sizeof from;
    uint8_t request[128], p[SNTP_SIZE], wrong[SNTP_SIZE];
    ssize_t n = recvfrom(s->fd, request, sizeof request, 0, (struct sockaddr *)&from, &from_size);
    if (n != SNTP_SIZE)
        return;
    enum manner manner = (enum manner)atomic_load(&s->manner);
    int i = atomic_fetch_add(&s->asked, 1);
    atomic_store(&s->nonces[i % 64], get_be64(request + 40));
    if (manner == SILENT)
        return;
    if (manner == WRONG_THEN_HONEST) {
        make_answer(s, WRONG_NONCE, request, wrong);
        sendto(s->fd, wrong, sizeof wrong, 0, (struct sockaddr *)&from, from_size);
    }
    make_answer(s, manner, request, p);
    sendto(s->fd, p, manner == SHORT ? 20 : sizeof p, 0, (struct sockaddr *)&from, from_size);
}

static void *serve(void *arg)
{
    struct server *s = arg;
    struct pollfd poll_fd = {.fd = s->fd, .events = POLLIN};
    while (!atomic_load(&s->stop))
        if (poll(&poll_fd, 1, 20) > 0)
            serve_one(s);
    return NULL;
}

static void server_begin(struct server *s, enum manner manner)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    *s = (struct server){.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), .manner = manner};
    ck_assert_int_ge(s->fd, 0);
    ck_assert_int_eq(bind(s->fd, (struct sockaddr *)&at, size), 0);
    ck_assert_int_eq(getsockname(s->fd, (struct sockaddr *)&at, &size), 0);
    s->port = ntohs(at.sin_port);
    ck_assert_int_eq(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_end(struct server *s)
{
    atomic_store(&s->stop, true);
    pthread_join(s->thread, NULL);
    close(s->fd);
}

static char *server_name(const struct server *s)
{
    static char name[32];
    snprintf(name, sizeof name, "127.0.0.1:%u", s->port);
    return name;
}

/* Asks a server once, by a clock without a thread. */
static struct spool_clock_source_info ask(struct machine *m, struct server *s, uint32_t timeout_ms)
{
    *m = (struct machine){0};
    ck_ok(hlc_new(&(struct hlc_options){.no_thread = true}, &m->clock));
    ck_ok(hlc_source_add_sntp(m->clock, server_name(s), &SPOOL_CLOCK_SOURCE_OPTIONS(.timeout_ms = timeout_ms)));
    hlc_calibrate(m->clock, deadline_in_ms(30000));
    return machine_source(m, server_name(s));
}

START_TEST(test_server)
{
    struct machine m;
    struct server s;
    server_begin(&s, HONEST);
    struct spool_clock_source_info info = ask(&m, &s, 10000);
    ck_assert_int_eq(info.verdict, SPOOL_CLOCK_AGREES);
    ck_assert(info.offset_ns < (int64_t)info.error_ns && -info.offset_ns < (int64_t)info.error_ns);
    ck_assert_uint_eq(info.stratum, 2);
    ck_assert_uint_eq(info.root & UINT32_MAX, 0xc0000201);
    ck_assert_int_eq(machine_read(&m).status, SPOOL_CLOCK_SYNCHRONISED);
    for (int i = 0; i < 9; i++)
        hlc_calibrate(m.clock, deadline_in_ms(30000));
    ck_assert_int_eq(atomic_load(&s.asked), 10);
    for (int i = 0; i < 10; i++) /* random each time */
        for (int k = 0; k < i; k++)
            ck_assert_uint_ne(atomic_load(&s.nonces[i]), atomic_load(&s.nonces[k]));
    hlc_free(m.clock);
    server_end(&s);
}
END_TEST

static void refused(enum manner manner, enum spool_clock_verdict verdict, const char *why)
{
    struct machine m;
    struct server s;
    server_begin(&s, manner);
    struct spool_clock_source_info info = ask(&m, &s, 150);
    ck_assert_msg(info.verdict == verdict, "manner %d: %s", manner, spool_clock_verdict_name(info.verdict));
    ck_assert_uint_eq(info.failures, 1);
    ck_assert_int_eq(machine_read(&m).status, SPOOL_CLOCK_UNSYNCHRONISED);
    ck_assert_int_ge(atomic_load(&s.asked), 1);
    ck_assert_msg(strstr(spool_last_error(), why) != NULL, "\"%s\" instead of \"%s\"", spool_last_error(), why);
    hlc_free(m.clock);
    server_end(&s);
}

START_TEST(test_hostile_servers)
{
    refused(SILENT, SPOOL_CLOCK_UNREACHABLE, "does not answer");
    refused(WRONG_NONCE, SPOOL_CLOCK_UNREACHABLE, "does not answer");
    refused(SHORT, SPOOL_CLOCK_UNREACHABLE, "does not answer");
}
END_TEST

START_TEST(test_bad_servers)
{
    static const enum manner manners[] = {UNSYNCHRONISED, FAR, RATE, DENY};
    for (size_t i = 0; i < sizeof manners / sizeof *manners; i++) {
        struct machine m;
        struct server s;
        server_begin(&s, manners[i]);
        struct spool_clock_source_info info = ask(&m, &s, 10000);
        ck_assert_int_eq(info.verdict, manners[i] == DENY ? SPOOL_CLOCK_REFUSED : SPOOL_CLOCK_UNREACHABLE);
        ck_assert_uint_eq(info.failures, 1);
        ck_assert_int_eq(machine_read(&m).status, SPOOL_CLOCK_UNSYNCHRONISED);
        if (manners[i] == RATE)
            ck_assert_uint_ge(info.poll_interval_ms, 15 * 60 * 1000);
        hlc_calibrate(m.clock, deadline_in_ms(30000)); /* one that refused is left alone */
        ck_assert_int_eq(atomic_load(&s.asked), manners[i] == DENY ? 1 : 2);
        hlc_free(m.clock);
        server_end(&s);
    }
}
END_TEST

/* Somebody shouts wrong answers in between: the right one counts. A replayed one does not, though it was right once. */
START_TEST(test_spoofed_and_replayed)
{
    struct machine m;
    struct server s;
    server_begin(&s, WRONG_THEN_HONEST);
    ck_assert_int_eq(ask(&m, &s, 10000).verdict, SPOOL_CLOCK_AGREES);
    atomic_store(&s.manner, REPLAY);
    ck_ok(hlc_source_set(m.clock, server_name(&s), &SPOOL_CLOCK_SOURCE_OPTIONS(.timeout_ms = 150)));
    hlc_calibrate(m.clock, deadline_in_ms(30000));
    struct spool_clock_source_info info = machine_source(&m, server_name(&s));
    ck_assert_uint_eq(info.answers, 1);
    ck_assert_uint_eq(info.failures, 1);
    hlc_free(m.clock);
    server_end(&s);
}
END_TEST

/* Three servers, one of which lies: named, and outvoted. With one reference they would be one vote. */
START_TEST(test_one_of_three_lies)
{
    struct server s[3];
    struct machine m = {0};
    ck_ok(hlc_new(&(struct hlc_options){.no_thread = true}, &m.clock));
    for (int i = 0; i < 3; i++) {
        server_begin(&s[i], HONEST);
        atomic_store(&s[i].offset_ns, i == 1 ? 7 * (int64_t)SECOND : 0);
        atomic_store(&s[i].reference, (uint8_t)i);
        ck_ok(hlc_source_add_sntp(m.clock, server_name(&s[i]), NULL));
    }
    ck_ok(hlc_calibrate(m.clock, deadline_in_ms(30000)));
    ck_assert_uint_ge(machine_read(&m).voting, 3); /* the kernel may have its say */
    ck_assert_int_eq(machine_read(&m).status, SPOOL_CLOCK_SYNCHRONISED);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(machine_source(&m, server_name(&s[i])).verdict,
                         i == 1 ? SPOOL_CLOCK_FALSETICKER : SPOOL_CLOCK_AGREES);
    for (int i = 0; i < 3; i++)
        atomic_store(&s[i].reference, 0);
    ck_ok(hlc_calibrate(m.clock, deadline_in_ms(30000)));
    ck_assert_uint_le(machine_read(&m).voting, 2);
    hlc_free(m.clock);
    for (int i = 0; i < 3; i++)
        server_end(&s[i]);
}
END_TEST

/* On the thread: polls, and ends at once though a server is silent. */
START_TEST(test_thread)
{
    struct machine m = {0};
    struct server good_one, silent;
    server_begin(&good_one, HONEST);
    server_begin(&silent, SILENT);
    ck_ok(hlc_new(NULL, &m.clock));
    ck_ok(hlc_source_add_sntp(m.clock, server_name(&good_one), NULL));
    for (uint64_t until = deadline_in_ms(30000); !machine_read(&m).voting && mono_ns() < until;)
        usleep(1000);
    ck_assert_int_eq(machine_read(&m).status, SPOOL_CLOCK_SYNCHRONISED);
    ck_ok(hlc_source_add_sntp(m.clock, server_name(&silent), &SPOOL_CLOCK_SOURCE_OPTIONS(.timeout_ms = 60000)));
    for (uint64_t until = deadline_in_ms(30000); !atomic_load(&silent.asked) && mono_ns() < until;)
        usleep(1000);
    ck_assert_int_eq(atomic_load(&silent.asked), 1);
    uint64_t begin = mono_ns();
    hlc_free(m.clock);
    ck_assert_uint_lt(mono_ns() - begin, 30 * SECOND); /* not the 60 of its timeout */
    server_end(&good_one);
    server_end(&silent);
}
END_TEST

START_TEST(test_names_of_servers)
{
    static const char *const bad[] = {"", ":123", "a:", "a:0", "a:65536", "a:12x", "[::1", "[::1]x", "a b", NULL};
    static const char *const fine[] = {"192.0.2.1",   "192.0.2.1:123",    "[2001:db8::1]:123",
                                       "2001:db8::1", "time.example.org", NULL};
    struct machine m = {0};
    ck_ok(hlc_new(&(struct hlc_options){.no_thread = true}, &m.clock));
    for (int i = 0; bad[i]; i++)
        ck_code(hlc_source_add_sntp(m.clock, bad[i], NULL), SPOOL_EINVAL);
    for (int i = 0; fine[i]; i++)
        ck_ok(hlc_source_add_sntp(m.clock, fine[i], NULL));
    ck_code(hlc_source_add_sntp(m.clock, "a", &SPOOL_CLOCK_SOURCE_OPTIONS(.poll_interval_ms = 15999)), SPOOL_EOPTION);
    ck_code(hlc_source_add_sntp(m.clock, NULL, NULL), SPOOL_EINVAL);
    hlc_free(m.clock);
}
END_TEST

/* Nothing of it leaves the machine: localhost is in /etc/hosts, and an unknown name ends in time. */
START_TEST(test_a_name_is_resolved)
{
    struct machine m;
    struct server s;
    char name[32];
    server_begin(&s, HONEST);
    m = (struct machine){0};
    ck_ok(hlc_new(&(struct hlc_options){.no_thread = true}, &m.clock));
    snprintf(name, sizeof name, "localhost:%u", s.port);
    ck_ok(hlc_source_add_sntp(m.clock, name, &SPOOL_CLOCK_SOURCE_OPTIONS(.timeout_ms = 10000)));
    for (int i = 0; i < 4 && !machine_source(&m, name).answers; i++) /* ::1 may come first, where nobody listens */
        hlc_calibrate(m.clock, deadline_in_ms(30000));
    ck_assert_int_eq(machine_source(&m, name).verdict, SPOOL_CLOCK_AGREES);
    hlc_free(m.clock);
    server_end(&s);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("clock_sntp");
    TCase *t = tcase_create("sntp");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, test_request_tells_nothing_but_the_nonce);
    tcase_add_test(t, test_good_answer);
    tcase_add_test(t, test_no_answers);
    tcase_add_test(t, test_answers_that_are_worth_nothing);
    tcase_add_test(t, test_kiss_of_death);
    tcase_add_test(t, test_eras);
    tcase_add_test(t, test_sample);
    tcase_add_test(t, test_server);
    tcase_add_test(t, test_hostile_servers);
    tcase_add_test(t, test_bad_servers);
    tcase_add_test(t, test_spoofed_and_replayed);
    tcase_add_test(t, test_one_of_three_lies);
    tcase_add_test(t, test_thread);
    tcase_add_test(t, test_names_of_servers);
    tcase_add_test(t, test_a_name_is_resolved);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
