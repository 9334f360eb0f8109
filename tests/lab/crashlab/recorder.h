/* recorder.h - notes what this process and its children do below one directory. The calls are interposed: the program
 * exports its own write(), rename() … (recorder_file.c, recorder_dir.c, recorder_process.c), which the library and
 * liblmdb both come through; they do the same as a raw system call, under the lock of the trace, and add a record.
 *
 * Nothing is remembered by descriptor: a file is known by device and inode, flags and position are asked of the kernel.
 */
#ifndef CRASHLAB_RECORDER_H
#define CRASHLAB_RECORDER_H

#include "trace.h"

/* From now on marks are noted. */
void recorder_attach(struct trace *trace);

/* From now on everything below `dir` is noted as well. */
int recorder_begin(const char *dir);

/* Notes the content of `dir` as being there safely; before recorder_begin(). errno. */
int recorder_note_base(struct trace *trace, const char *dir);

/* Nothing is noted any more in this process. */
void recorder_end(void);

/* ------------------------------------------------------------------------------------- for the recorder's own files */

/* Takes the lock and returns the trace if this process is recorded; else NULL. */
struct trace *recorder_enter(void);
void recorder_leave(struct trace *trace);

/* The id of an open file; 0: none below the directory. */
uint32_t recorder_id(const struct trace *trace, int fd);

/* Adds what changed in the files that are written through a mapping, as it is at one instant. */
void recorder_stores(struct trace *trace);

/* A file is written through a mapping from now on. */
void recorder_mapped(struct trace *trace, uint32_t id);

/* What a recorded write did to it is no news. */
void recorder_update_shadow(struct trace *trace, uint32_t id, uint64_t at, const void *data, size_t size);

/* As long as a flush takes, so that other threads come in between. */
void recorder_pause_us(unsigned us);

#endif
