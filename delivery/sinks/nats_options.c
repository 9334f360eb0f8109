/* nats_options.c - see nats_options.h. */
#include "nats_options.h"

#include <stdlib.h>

static const char system_authorities[] = "/etc/ssl/certs/ca-certificates.crt";

static natsStatus set_tls(natsOptions *options, const struct wire_settings *s)
{
    if (!s->tls)
        return NATS_OK;
    natsStatus status = natsOptions_SetSecure(options, true);
    if (status == NATS_OK)
        status = natsOptions_LoadCATrustedCertificates(options, s->ca ? s->ca : system_authorities);
    if (status == NATS_OK && s->cert)
        status = natsOptions_LoadCertificatesChain(options, s->cert, s->key ? s->key : s->cert);
    return status;
}

static natsStatus set_login(natsOptions *options, const struct wire_settings *s, const char *password,
                            const char *token)
{
    natsStatus status = NATS_OK;
    if (token)
        status = natsOptions_SetToken(options, token);
    if (status == NATS_OK && s->user)
        status = natsOptions_SetUserInfo(options, s->user, password ? password : "");
    if (status == NATS_OK && s->creds)
        status = natsOptions_SetUserCredentialsFromFiles(options, s->creds, NULL);
    return status;
}

static natsStatus set_manners(natsOptions *options, const struct wire_settings *s)
{
    natsStatus status = natsOptions_SetServers(options, (const char **)s->urls, s->url_count);
    status = status ? status : natsOptions_SetName(options, "libspool");
    status = status ? status : natsOptions_SetTimeout(options, (int64_t)s->connect_ms);
    status = status ? status : natsOptions_SetAllowReconnect(options, false);
    status = status ? status : natsOptions_SetIgnoreDiscoveredServers(options, true);
    status = status ? status : natsOptions_SetIOBufSize(options, 128 << 10);
    status = status ? status : natsOptions_SetWriteDeadline(options, 10000);
    return status ? status : natsOptions_SetPingInterval(options, 10000);
}

natsStatus options_make(const struct wire_settings *s, const char *password, const char *token, natsOptions **ret)
{
    natsStatus status = natsOptions_Create(ret);
    status = status ? status : set_manners(*ret, s);
    status = status ? status : set_tls(*ret, s);
    return status ? status : set_login(*ret, s, password, token);
}

natsStatus stream_make(jsCtx *js, const struct wire_settings *s, jsErrCode *ret_error)
{
    jsStreamConfig config;
    jsStreamInfo *info = NULL;
    const char *subjects[] = {s->subjects};
    jsStreamConfig_Init(&config);
    config.Name = s->stream;
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.Replicas = (int64_t)s->replicas;
    config.Duplicates = (int64_t)(s->window_ms * NS_PER_MS);
    config.MaxAge = (int64_t)(s->max_age_ms * NS_PER_MS);
    if (s->max_bytes > 0)
        config.MaxBytes = (int64_t)s->max_bytes;
    natsStatus status = js_AddStream(&info, js, &config, NULL, ret_error);
    jsStreamInfo_Destroy(info);
    return status;
}

void wire_settings_drop(struct wire_settings *s)
{
    if (!s || atomic_fetch_sub(&s->holders, 1) > 1)
        return;
    for (int i = 0; i < s->url_count; i++)
        free(s->urls[i]);
    free(s->urls);
    char *texts[] = {s->user, s->creds, s->ca, s->cert, s->key, s->stream, s->subjects};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        free(texts[i]);
    secret_free(&s->password);
    secret_free(&s->token);
    free(s);
}
