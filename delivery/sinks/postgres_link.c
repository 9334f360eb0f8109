/* postgres_link.c - see postgres_link.h. */
#include "postgres_link.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "plugin_resolve.h"

/* ---------------------------------------------------------------------------------------------------------- failures
 */

/* The code in a message of PQERRORS_VERBOSE: "FATAL:  28P01: password authentication failed". */
static void find_sqlstate(const char *message, char ret[6])
{
    for (const char *at = message; (at = strchr(at, ':')) != NULL; at++) {
        size_t blanks = strspn(at + 1, " ");
        const char *code = at + 1 + blanks;
        if (blanks > 0 && strspn(code, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && code[5] == ':') {
            memcpy(ret, code, 5);
            ret[5] = '\0';
            return;
        }
    }
    ret[0] = '\0';
}

static bool is_class(const char *sqlstate, const char *class)
{
    return strncmp(sqlstate, class, 2) == 0;
}

static int code_of(const char *sqlstate)
{
    static const char *const wrong[] = {"28", "3D", "3F", "42", "0A"}, *const data[] = {"22", "23", "54"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (is_class(sqlstate, wrong[i]))
            return SPOOL_ECONFIG;
    for (size_t i = 0; i < sizeof data / sizeof *data; i++)
        if (is_class(sqlstate, data[i]))
            return SPOOL_EREJECTED;
    return SPOOL_EUNAVAILABLE;
}

/* The first line of a message, which names no place in the server's source. */
static int tell(int code, const char *sqlstate, const char *message)
{
    size_t size = strcspn(message, "\n");
    while (size > 0 && isspace((unsigned char)message[size - 1]))
        size--;
    if (*sqlstate)
        return spool_sink_error(code, "PostgreSQL: %.*s (SQLSTATE %s)", (int)size, message, sqlstate);
    return spool_sink_error(code, "PostgreSQL: %.*s", (int)size, size ? message : "the connection is lost");
}

static int connection_failed(struct pg_link *link)
{
    const char *message = PQerrorMessage(link->conn);
    find_sqlstate(message, link->sqlstate);
    int code = tell(code_of(link->sqlstate), "", message);
    link_close(link);
    return code == SPOOL_EREJECTED ? SPOOL_EUNAVAILABLE : code;
}

static int statement_failed(struct pg_link *link, const PGresult *result)
{
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    strncpy(link->sqlstate, sqlstate ? sqlstate : "", 5);
    link->sqlstate[5] = '\0';
    return tell(code_of(link->sqlstate), link->sqlstate, primary ? primary : PQresultErrorMessage(result));
}

/* ----------------------------------------------------------------------------------------------------------- waiting
 */

static int cancelled(struct pg_link *link)
{
    link_close(link); /* something is under way on it: nobody can tell how it ends */
    return spool_sink_error(SPOOL_EUNAVAILABLE, "PostgreSQL: cancelled");
}

/* Waits for the socket and takes what has come. */
static int wait_and_take(struct pg_link *link, short events)
{
    if (cancel_wait(link->cancel, PQsocket(link->conn), events, DEADLINE_NEVER) == WAIT_CANCELLED)
        return cancelled(link);
    return PQconsumeInput(link->conn) ? SPOOL_OK : connection_failed(link);
}

/* Until all is sent. What comes is taken, too, lest both sides wait for each other. */
static int flush(struct pg_link *link)
{
    int code = SPOOL_OK, left;
    while (code == SPOOL_OK && (left = PQflush(link->conn)) != 0) {
        if (left < 0)
            return connection_failed(link);
        code = wait_and_take(link, POLLIN | POLLOUT);
    }
    return code;
}

/* NULL in *ret: there are no more. */
static int next_result(struct pg_link *link, PGresult **ret)
{
    int code = SPOOL_OK;
    while (code == SPOOL_OK && PQisBusy(link->conn))
        code = wait_and_take(link, POLLIN);
    if (code == SPOOL_OK)
        *ret = PQgetResult(link->conn);
    return code;
}

/* ------------------------------------------------------------------------------------------------------------ running
 */

/* Takes results until there are no more, or the server waits for data. The first failure counts; the last rows are kept
 * when `ret_rows` is not NULL. */
static int take_results(struct pg_link *link, PGresult **ret_rows)
{
    int first = SPOOL_OK;
    for (;;) {
        PGresult *result = NULL;
        int code = next_result(link, &result);
        if (code != SPOOL_OK)
            return code;
        if (!result)
            break;
        ExecStatusType status = PQresultStatus(result);
        if (status == PGRES_TUPLES_OK && ret_rows) {
            PQclear(*ret_rows);
            *ret_rows = result;
            continue;
        }
        if (status == PGRES_FATAL_ERROR && first == SPOOL_OK)
            first = statement_failed(link, result);
        PQclear(result);
        if (status == PGRES_COPY_IN)
            return first;
    }
    if (PQstatus(link->conn) != CONNECTION_OK)
        link_close(link);
    return first;
}

static int start(struct pg_link *link, const char *sql)
{
    link->sqlstate[0] = '\0';
    return PQsendQuery(link->conn, sql) ? flush(link) : connection_failed(link);
}

int link_run(struct pg_link *link, const char *sql)
{
    int code = start(link, sql);
    return code == SPOOL_OK ? take_results(link, NULL) : code;
}

int link_ask(struct pg_link *link, const char *sql, PGresult **ret)
{
    PGresult *rows = NULL;
    int code = start(link, sql);
    if (code == SPOOL_OK)
        code = take_results(link, &rows);
    if (code == SPOOL_OK && !rows)
        code = spool_sink_error(SPOOL_EUNAVAILABLE, "PostgreSQL: a statement answered no rows");
    if (code == SPOOL_OK)
        *ret = rows;
    else
        PQclear(rows);
    return code;
}

/* libpq keeps what it cannot send: it is sent before more is handed over, so that memory stays bounded. */
int link_put(struct pg_link *link, const void *bytes, size_t size)
{
    int code = SPOOL_OK, put = 0;
    while (code == SPOOL_OK && put == 0) {
        put = PQputCopyData(link->conn, bytes, (int)size);
        code = put < 0 ? connection_failed(link) : flush(link);
    }
    return code;
}

int link_end(struct pg_link *link)
{
    int code = SPOOL_OK, end = 0;
    while (code == SPOOL_OK && end == 0) {
        end = PQputCopyEnd(link->conn, NULL);
        code = end < 0 ? connection_failed(link) : flush(link);
    }
    return code == SPOOL_OK ? take_results(link, NULL) : code;
}

/* --------------------------------------------------------------------------------------------------------- connecting
 */

enum { OPTIONS_MAX = 64, LIST_MAX = 1024 };

/* What PQconnectStartParams() gets. */
struct options {
    const char *keys[OPTIONS_MAX + 1], *values[OPTIONS_MAX + 1];
    size_t count;
    char hosts[LIST_MAX], addresses[LIST_MAX], ports[LIST_MAX]; /* lists, an entry for each address */
};

static void set(struct options *options, const char *key, const char *value)
{
    if (options->count < OPTIONS_MAX && value) {
        options->keys[options->count] = key;
        options->values[options->count++] = value;
    }
}

static const char *given_value(const PQconninfoOption *given, const char *key)
{
    for (; given->keyword; given++)
        if (strcmp(given->keyword, key) == 0)
            return given->val && *given->val ? given->val : NULL;
    return NULL;
}

static int append(char list[LIST_MAX], const char *entry, bool first)
{
    size_t size = strlen(list);
    int n = snprintf(list + size, LIST_MAX - size, "%s%s", first ? "" : ",", entry);
    return n >= 0 && (size_t)n < LIST_MAX - size ? SPOOL_OK
                                                 : spool_sink_error(SPOOL_ECONFIG, "PostgreSQL: too many hosts");
}

/* One host at one address ("": a socket's folder) and port. */
static int add_entry(struct options *options, const char *host, const char *address, const char *port)
{
    bool first = options->hosts[0] == '\0';
    int code = append(options->hosts, host, first);
    if (code == SPOOL_OK)
        code = append(options->addresses, address, first);
    return code == SPOOL_OK ? append(options->ports, port, first) : code;
}

static int add_host(const struct pg_link *link, struct options *options, const char *host, const char *port,
                    uint64_t deadline_ns)
{
    struct addrinfo *found = NULL;
    char text[INET6_ADDRSTRLEN];
    if (*host == '/' || *host == '@')
        return add_entry(options, host, "", port);
    int code = resolve(link->cancel, host, deadline_ns, &found);
    for (struct addrinfo *at = found; at && code == SPOOL_OK; at = at->ai_next)
        if (getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) == 0)
            code = add_entry(options, host, text, port);
    if (found)
        freeaddrinfo(found);
    return code;
}

/* The next entry of a list with commas; the last one again, when there are no more: a single port stands for all hosts.
 */
static void next_entry(const char **list, char ret[256])
{
    size_t size = strcspn(*list, ",");
    snprintf(ret, 256, "%.*s", (int)size, *list);
    if ((*list)[size] == ',')
        *list += size + 1;
}

static int add_hosts(const struct pg_link *link, struct options *options, const char *hosts, const char *ports,
                     uint64_t deadline_ns)
{
    char host[256], port[256];
    int code = SPOOL_OK;
    for (bool more = true; more && code == SPOOL_OK;) {
        more = strchr(hosts, ',') != NULL;
        next_entry(&hosts, host);
        next_entry(&ports, port);
        code = add_host(link, options, host, port, deadline_ns);
    }
    return code;
}

static int fill(const struct pg_link *link, struct options *options, const PQconninfoOption *given,
                const char *password, uint64_t deadline_ns)
{
    const char *hosts = given_value(given, "host"), *ports = given_value(given, "port");
    set(options, "fallback_application_name", "libspool");
    set(options, "sslmode", "verify-full");
    set(options, "sslrootcert", "/etc/ssl/certs/ca-certificates.crt");
    set(options, "gssencmode", "disable");
    set(options, "tcp_user_timeout", "30000");
    for (const PQconninfoOption *at = given; at->keyword; at++)
        if (at->val && *at->val && strcmp(at->keyword, "host") != 0 && strcmp(at->keyword, "port") != 0)
            set(options, at->keyword, at->val); /* the last one counts */
    set(options, "client_encoding", "UTF8");
    set(options, "password", password);
    hosts = hosts ? hosts : getenv("PGHOST");
    if (!hosts || given_value(given, "hostaddr")) { /* nothing to be looked up */
        set(options, "host", hosts);
        set(options, "port", ports);
        return SPOOL_OK;
    }
    int code = add_hosts(link, options, hosts, ports ? ports : "5432", deadline_ns);
    set(options, "host", options->hosts);
    set(options, "hostaddr", options->addresses);
    set(options, "port", options->ports);
    return code;
}

static int poll_until_connected(struct pg_link *link, uint64_t deadline_ns)
{
    for (PostgresPollingStatusType want = PGRES_POLLING_WRITING; want != PGRES_POLLING_OK;
         want = PQconnectPoll(link->conn)) {
        if (want == PGRES_POLLING_FAILED)
            return connection_failed(link);
        short events = want == PGRES_POLLING_READING ? POLLIN : POLLOUT;
        enum cancel_wait how = cancel_wait(link->cancel, PQsocket(link->conn), events, deadline_ns);
        if (how == WAIT_CANCELLED)
            return cancelled(link);
        if (how == WAIT_TIMEOUT) {
            link_close(link);
            return spool_sink_error(SPOOL_EUNAVAILABLE, "PostgreSQL: no connection within connect_timeout");
        }
    }
    return SPOOL_OK;
}

static void ignore_notice(void *user, const char *message)
{
    (void)user, (void)message; /* libpq would print it */
}

int link_open(struct pg_link *link, const PQconninfoOption *given, const char *password, uint64_t timeout_ms)
{
    uint64_t deadline_ns = deadline_in_ms(timeout_ms);
    struct options *options = calloc(1, sizeof *options);
    if (!options)
        return spool_sink_error(ENOMEM, "out of memory");
    int code = fill(link, options, given, password, deadline_ns);
    if (code == SPOOL_OK)
        link->conn = PQconnectStartParams(options->keys, options->values, 0);
    free(options);
    if (code != SPOOL_OK)
        return code;
    if (!link->conn)
        return spool_sink_error(ENOMEM, "out of memory");
    PQsetErrorVerbosity(link->conn, PQERRORS_VERBOSE); /* the code of a refused connection is nowhere else */
    PQsetNoticeProcessor(link->conn, ignore_notice, NULL);
    if (PQstatus(link->conn) == CONNECTION_BAD)
        return connection_failed(link);
    code = poll_until_connected(link, deadline_ns);
    if (code == SPOOL_OK && PQsetnonblocking(link->conn, 1) != 0)
        return connection_failed(link);
    return code;
}

void link_close(struct pg_link *link)
{
    PQfinish(link->conn);
    link->conn = NULL;
}
