/* survey.c - all sinks of a spool at one moment. */
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "survey.h"
#include "tool.h"

static void survey_add(struct survey *survey, const struct spool_sink_info *info)
{
    struct spool_sink_info *sinks = tool_alloc(survey->count + 1, sizeof *sinks);
    if (survey->count)
        memcpy(sinks, survey->sinks, survey->count * sizeof *sinks);
    free(survey->sinks);
    survey->sinks = sinks;
    struct spool_sink_info *copy = &sinks[survey->count++];
    *copy = *info;
    copy->name = tool_format("%s", info->name);
    copy->kind = tool_format("%s", info->kind ? info->kind : "?");
    copy->json_config = tool_format("%s", info->json_config ? info->json_config : "{}");
    copy->options_json = tool_format("%s", info->options_json ? info->options_json : "{}");
    copy->last_error = tool_format("%s", info->last_error ? info->last_error : "");
    copy->paused_reason = tool_format("%s", info->paused_reason ? info->paused_reason : "");
    copy->resources = tool_format("%s", info->resources ? info->resources : "");
    copy->waits_for = tool_format("%s", info->waits_for ? info->waits_for : "");
}

static int survey_each(void *user, const struct spool_sink_info *info)
{
    struct survey *survey = user;
    survey_add(survey, info);
    survey->pending_sum += info->pending_events;
    survey->delivered += info->delivered_events;
    survey->dead_letters += info->dead_letters;
    if (info->pending_events > survey->pending_max)
        survey->pending_max = info->pending_events;
    if (info->oldest_ns && (!survey->oldest_ns || info->oldest_ns < survey->oldest_ns))
        survey->oldest_ns = info->oldest_ns;
    return 0;
}

int survey_take(struct spool *spool, struct survey *ret_survey)
{
    struct survey survey = {0};
    int code = spool_sink_each(spool, survey_each, &survey);
    if (code)
        survey_free(&survey);
    else
        *ret_survey = survey;
    return code;
}

void survey_free(struct survey *survey)
{
    for (size_t i = 0; i < survey->count; i++) {
        free((char *)survey->sinks[i].name);
        free((char *)survey->sinks[i].kind);
        free((char *)survey->sinks[i].json_config);
        free((char *)survey->sinks[i].options_json);
        free((char *)survey->sinks[i].last_error);
        free((char *)survey->sinks[i].paused_reason);
        free((char *)survey->sinks[i].resources);
        free((char *)survey->sinks[i].waits_for);
    }
    free(survey->sinks);
    *survey = (struct survey){0};
}

const struct spool_sink_info *survey_find(const struct survey *survey, const char *name)
{
    for (size_t i = 0; i < survey->count; i++)
        if (!strcmp(survey->sinks[i].name, name))
            return &survey->sinks[i];
    return NULL;
}

char *survey_holders(const struct survey *survey)
{
    char *list = tool_format("%s", ""), count[UNITS_SIZE];
    for (size_t i = 0; i < survey->count; i++) {
        const struct spool_sink_info *sink = &survey->sinks[i];
        if (!sink->pending_events)
            continue;
        const char *why = *sink->paused_reason ? sink->paused_reason : sink->last_error;
        char *longer = tool_format("%s%s%s holds %s (%s%s%s)", list, *list ? ", " : "", sink->name,
                                   units_count(sink->pending_events, count), spool_sink_state_name(sink->state),
                                   *why ? ": " : "", why);
        free(list);
        list = longer;
    }
    return list;
}
