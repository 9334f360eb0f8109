/* plugin_secret.c - see plugin_secret.h. */
#include "plugin_secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../lib/spool.h"

static int wrong(const struct config *config, const char *key, const char *what)
{
    return spool_sink_error(SPOOL_ECONFIG, "configuration of the %s sink: \"%s\" %s", config->kind, key, what);
}

int config_secret(struct config *config, const char *key, bool required, struct secret *ret)
{
    json_t *value = json_object_get(config->object, key);
    if (!value)
        return required ? wrong(config, key, "is required") : SPOOL_OK;
    json_t *env = json_object_get(value, "env"), *file = json_object_get(value, "file");
    const char *name = json_string_value(env ? env : file);
    if (json_object_size(value) != 1 || !name || !*name || strlen(name) != json_string_length(env ? env : file))
        return wrong(config, key,
                     "must be {\"env\": \"NAME\"} or {\"file\": \"/PATH\"}: a secret is never kept in a configuration");
    if (file && *name != '/')
        return wrong(config, key, "must name a file by its absolute path");
    char *copy = strdup(name);
    if (!copy)
        return spool_sink_error(ENOMEM, "out of memory");
    *(env ? &ret->env : &ret->file) = copy;
    json_object_del(config->object, key);
    return SPOOL_OK;
}

static int read_env(const struct secret *secret, const char *key, char **ret)
{
    const char *value = secure_getenv(secret->env);
    if (!value || !*value)
        return spool_sink_error(SPOOL_ECONFIG, "\"%s\": the environment variable %s is not set", key, secret->env);
    *ret = strdup(value);
    return *ret ? SPOOL_OK : spool_sink_error(ENOMEM, "out of memory");
}

static int check_file(const struct secret *secret, const char *key, int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return spool_sink_error(SPOOL_ECONFIG, "\"%s\": %s: %s", key, secret->file, spool_strerror(errno));
    if (!S_ISREG(st.st_mode))
        return spool_sink_error(SPOOL_ECONFIG, "\"%s\": %s is no plain file", key, secret->file);
    if (st.st_mode & (S_IROTH | S_IWOTH | S_IWGRP))
        return spool_sink_error(SPOOL_ECONFIG, "\"%s\": others may read or change %s: chmod 600 it", key, secret->file);
    return SPOOL_OK;
}

/* All of it, up to SECRET_MAX. */
static int read_all(const struct secret *secret, const char *key, int fd, char *text, size_t *ret_size)
{
    size_t size = 0;
    ssize_t n = 1;
    while (n != 0 && size <= SECRET_MAX) {
        n = read(fd, text + size, SECRET_MAX + 1 - size);
        if (n < 0 && errno != EINTR)
            return spool_sink_error(SPOOL_ECONFIG, "\"%s\": %s: %s", key, secret->file, spool_strerror(errno));
        size += n > 0 ? (size_t)n : 0;
        if (size > SECRET_MAX)
            return spool_sink_error(SPOOL_ECONFIG, "\"%s\": %s has more than %d bytes", key, secret->file, SECRET_MAX);
    }
    if (size > 0 && text[size - 1] == '\n')
        size--;
    text[size] = '\0';
    *ret_size = size;
    return SPOOL_OK;
}

static int read_file(const struct secret *secret, const char *key, char **ret)
{
    int fd = open(secret->file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return spool_sink_error(SPOOL_ECONFIG, "\"%s\": %s: %s", key, secret->file, spool_strerror(errno));
    char *text = calloc(1, SECRET_MAX + 2);
    size_t size = 0;
    int code = text ? check_file(secret, key, fd) : spool_sink_error(ENOMEM, "out of memory");
    if (code == SPOOL_OK)
        code = read_all(secret, key, fd, text, &size);
    if (code == SPOOL_OK && (size == 0 || strlen(text) != size))
        code = spool_sink_error(SPOOL_ECONFIG, "\"%s\": %s is empty or holds a NUL", key, secret->file);
    close(fd);
    if (code == SPOOL_OK)
        *ret = text;
    else
        secret_wipe(text);
    return code;
}

int secret_read(const struct secret *secret, const char *key, char **ret)
{
    if (secret->env)
        return read_env(secret, key, ret);
    if (secret->file)
        return read_file(secret, key, ret);
    *ret = NULL;
    return SPOOL_OK;
}

void secret_wipe(char *text)
{
    if (text)
        explicit_bzero(text, strlen(text));
    free(text);
}

void secret_free(struct secret *secret)
{
    free(secret->env);
    free(secret->file);
    *secret = (struct secret){0};
}
