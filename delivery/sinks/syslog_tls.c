/* syslog_tls.c - TLS for syslog (RFC 5425), by OpenSSL, on a socket that does not block. The server's certificate and
 * its name are verified unless that was switched off. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>

#include "syslog_link.h"

/* No memory, no descriptors: nothing that an operator has to mend. */
static bool is_passing(unsigned long error)
{
    int reason = ERR_GET_REASON(error);
    if (ERR_SYSTEM_ERROR(error))
        return reason == EMFILE || reason == ENFILE || reason == ENOMEM;
    return reason == ERR_R_MALLOC_FAILURE || reason == ERR_R_INIT_FAIL;
}

/* Something that somebody can mend. Where OpenSSL says only that one of its parts has failed ("PEM lib"), that part had no
 * memory and told nobody. */
static bool is_cause(unsigned long error)
{
    return ERR_SYSTEM_ERROR(error) || !ERR_COMMON_ERROR(error);
}

/* The first thing OpenSSL has to say, and no more. What passes is no matter of the configuration. */
static int failed(int code, const char *where, const char *what)
{
    char text[128] = "";
    bool passing = false, has_cause = false;
    for (unsigned long error; (error = ERR_get_error()) != 0;) {
        if (!*text)
            ERR_error_string_n(error, text, sizeof text);
        passing |= is_passing(error);
        has_cause |= is_cause(error);
    }
    return spool_sink_error(passing || !has_cause ? SPOOL_EUNAVAILABLE : code, "%s: %s%s%s", where, what,
                            *text ? ": " : "", text);
}

/* ----------------------------------------------------------------------------------------------------------- context
 */

static int load_files(const struct link *link, SSL_CTX *context)
{
    int loaded =
        link->ca ? SSL_CTX_load_verify_locations(context, link->ca, NULL) : SSL_CTX_set_default_verify_paths(context);
    if (loaded != 1)
        return failed(SPOOL_ECONFIG, link->ca ? link->ca : "the system's certificates", "cannot be loaded");
    if (link->cert && SSL_CTX_use_certificate_chain_file(context, link->cert) != 1)
        return failed(SPOOL_ECONFIG, link->cert, "cannot be loaded");
    if (link->key && SSL_CTX_use_PrivateKey_file(context, link->key, SSL_FILETYPE_PEM) != 1)
        return failed(SPOOL_ECONFIG, link->key, "cannot be loaded");
    if (link->cert && SSL_CTX_check_private_key(context) != 1)
        return failed(SPOOL_ECONFIG, link->key, "does not belong to the certificate");
    return SPOOL_OK;
}

static int make_context(struct link *link)
{
    if (link->context)
        return SPOOL_OK;
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (!context)
        return failed(SPOOL_EUNAVAILABLE, link->host, "TLS");
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_verify(context, link->verify == 0 ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    int code = load_files(link, context);
    if (code == SPOOL_OK)
        link->context = context;
    else
        SSL_CTX_free(context);
    return code;
}

/* ------------------------------------------------------------------------------------------------------------- waits
 */

/* A certificate that does not do stays so until somebody changes it. But OpenSSL takes some want of memory for such a verdict
 * ("hostname mismatch"), and tells nobody: it is believed when the next connection comes to one as well. */
static int name_failure(struct link *link, const char *what)
{
    long verdict = SSL_get_verify_result(link->ssl);
    if (link->verify != 0 || verdict == X509_V_OK)
        return failed(SPOOL_EUNAVAILABLE, link->host, what);
    int code = link->is_untrusted ? SPOOL_ECONFIG : SPOOL_EUNAVAILABLE;
    link->is_untrusted = true;
    ERR_clear_error();
    return spool_sink_error(code, "%s: its certificate is not trusted: %s", link->host,
                            X509_verify_cert_error_string(verdict));
}

/* After a call that answered `result`: waits for what it needs. False: *ret_code says why there is no use in another.
 */
static bool go_on(struct link *link, int result, const char *what, uint64_t deadline_ns, int *ret_code)
{
    int error = SSL_get_error(link->ssl, result), err = errno;
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
        *ret_code = error == SSL_ERROR_SYSCALL && err
                        ? spool_sink_error(SPOOL_EUNAVAILABLE, "%s: %s: %s", link->host, what, spool_strerror(err))
                        : name_failure(link, what);
        return false;
    }
    short events = error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
    enum cancel_wait wait = cancel_wait(link->cancel, link->fd, events, deadline_ns);
    if (wait == WAIT_CANCELLED)
        *ret_code = spool_sink_error(SPOOL_EUNAVAILABLE, "cancelled while %s", what);
    else if (wait == WAIT_TIMEOUT)
        *ret_code = spool_sink_error(SPOOL_EUNAVAILABLE, "%s: %s: no answer in time", link->host, what);
    return wait == WAIT_READY;
}

static bool is_address(const char *text)
{
    ASN1_OCTET_STRING *address = a2i_IPADDRESS(text);
    ASN1_OCTET_STRING_free(address);
    return address != NULL;
}

static int set_name(struct link *link)
{
    const char *name = link->server_name ? link->server_name : link->host;
    int set = is_address(name) ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(link->ssl), name)
                               : SSL_set1_host(link->ssl, name) && SSL_set_tlsext_host_name(link->ssl, name);
    return set ? SPOOL_OK : failed(SPOOL_ECONFIG, name, "is no name of a server");
}

int tls_begin(struct link *link, uint64_t deadline_ns)
{
    ERR_clear_error();
    int code = make_context(link), result;
    if (code != SPOOL_OK)
        return code;
    link->ssl = SSL_new(link->context);
    if (!link->ssl || SSL_set_fd(link->ssl, link->fd) != 1)
        return failed(SPOOL_EUNAVAILABLE, link->host, "TLS");
    code = set_name(link);
    if (code != SPOOL_OK)
        return code;
    while ((result = SSL_connect(link->ssl)) != 1)
        if (!go_on(link, result, "the TLS handshake", deadline_ns, &code))
            return code;
    link->is_untrusted = false;
    return SPOOL_OK;
}

int tls_write(struct link *link, const void *bytes, size_t size, uint64_t deadline_ns)
{
    SSL_set_mode(link->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    for (const char *at = bytes; size > 0;) {
        int code = SPOOL_OK, part = size > 16384 ? 16384 : (int)size;
        ERR_clear_error();
        int n = SSL_write(link->ssl, at, part);
        if (n <= 0 && !go_on(link, n, "sending", deadline_ns, &code))
            return code;
        at += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return SPOOL_OK;
}

int tls_end(struct link *link, uint64_t deadline_ns)
{
    int code = SPOOL_OK, result;
    ERR_clear_error();
    while ((result = SSL_shutdown(link->ssl)) < 0)
        if (!go_on(link, result, "the end of TLS", deadline_ns, &code))
            return code;
    return SPOOL_OK;
}

void tls_close(struct link *link)
{
    SSL_free(link->ssl);
    link->ssl = NULL;
    ERR_clear_error();
}
