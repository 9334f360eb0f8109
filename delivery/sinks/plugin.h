/* plugin.h - what the plugins of this folder share, beside spool.h: each is linked with what it uses of it, hidden.
 *
 * A plugin is delivery/sinks/<kind>.c, with further files <kind>_*.c if it is large, and is built into
 * sinks/libspool-sink-<kind>.so. It may use:
 *
 *     spool.h       what struct spool_sink_host names, once SPOOL_SINK_PLUGIN() stands in its main file
 *     config.h      its configuration, strictly
 *     plugin_secret.h, plugin_cancel.h, plugin_net.h
 *     lib/base/     buffer.h, sync.h (times, condition variables), units.h, utf8.h, base64.h, json_tree.h, error.h's
 * err_set(); not id.h and event.h, whose work the host does
 *
 * Every hook runs on a thread of the library, on which all signals are blocked: a write to a closed pipe answers EPIPE.
 */
#ifndef DELIVERY_SINKS_PLUGIN_H
#define DELIVERY_SINKS_PLUGIN_H

#include "../../lib/base/buffer.h"
#include "../../lib/base/sync.h"
#include "../../lib/spool.h"
#include "config.h"
#include "plugin_cancel.h"
#include "plugin_secret.h"

#endif
