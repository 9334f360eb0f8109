/* control.c - the list of controls, and those that only need a flush forgotten; the others are in control_wraps.c.
 *
 * A control that nobody notices says that scenario or oracle are too weak. */
#include "control.h"

#include <fnmatch.h>
#include <stddef.h>
#include <string.h>

#include "../../../spool/journal.h"
#include "lab.h"

const struct lab_control lab_controls[] = {
    {"ack-before-flush", "enqueue returns although the journal was not flushed", "enqueue-power"},
    {"nosync", "LMDB flushes nothing", NULL},
    {"nometasync", "LMDB does not flush its meta page", NULL},
    {"no-flush-of-journal-directory", "a new journal's name is not made durable", "create"},
    {"no-flush-of-segments-directory", "a new segment's name is not made durable", "rotation"},
    {"no-flush-of-directory", "names in the spool's directory are not made durable", "create"},
    {"no-flush-of-parent", "the spool's own name is not made durable", "create"},
    {"no-flush-of-identity", "spool.json is renamed before its bytes are on the disk", "create"},
    {"no-flush-of-new-journal", "a new journal is used before its bytes are on the disk", "create"},
    {"position-after-blocks", "the journal's position is stored in a transaction of its own, after the events",
     "enqueue-power"},
    {"position-before-blocks", "the same, before the events", "enqueue-power"},
    {"space-reused-early", "room in the journal is given back before the commit has returned", "journal-laps"},
    {"stale-segment", "a commit goes to the segment known last, though another process has sealed it", "two-writers"},
    {"trusts-seen-commits", "a commit of a killed process is relied on before it is flushed", "killed-commit"},
    {"trusts-seen-cursors", "a segment is deleted for cursors of a killed process that were not flushed",
     "killed-acknowledgement"},
    {"stops-at-bad-record", "recovery takes nothing behind a record that does not match", "journal-damage"},
    {"begins-in-old-positions", "a journal taken over goes on where the dead process began", "adoption-at-open"},
    {"forgets-adopted", "a journal taken over is emptied before its events are committed", "adoption-at-open"},
    {"forgets-removed-journal", "a journal's position is forgotten before its removal is durable", "surplus-journals"},
    {"no-flush-of-sink-directories", "the file sink's directories are not flushed", "file-sink"},
    {"no-flush-of-sink-files", "the file sink's files are not flushed", "file-sink"},
    {"no-flush-of-compressed-files", "what the file sink has compressed is not flushed before the plain file goes",
     "file-compressed"},
    {"no-flush-of-sink-ledger", "what the file sink notes of its many files is not flushed", "file-partition"},
    {"checkpoint-apart", "a sink's checkpoint is stored in another transaction than its acknowledgement", "checkpoint"},
    {"counted-apart", "what is delivered of the log is counted in another transaction than its acknowledgement",
     "acknowledge"},
    {"counted-early", "retried events are counted as delivered before their rows are deleted", "retry"},
    {"acknowledged-later", "an acknowledgement is reported as stored one too early", "acknowledge"},
    {"forgets-ranges", "what is finished beyond a gap is not stored with its acknowledgement", "agents"},
    {"skips-gaps", "the cursor is stored behind what is finished beyond a gap", "agents"},
    {"deletes-early", "a segment is deleted before the cursors that have passed it are durable", "retry-rotation"},
    {"requeue-in-two", "a dead letter is deleted before it is back in its queue", "dead-letters"},
    {"edit-in-two", "a dead letter is deleted before what it was edited to is there", "edit"},
    {"rewind-forgotten", "a rewound sink stays where it was", "rewind"},
    {"move-in-two", "a dead letter is deleted here before it waits for the other sink", "requeue-to"},
    {"reason-forgotten", "a sink that pauses itself is paused without its reason", "forbidden"},
    {"limit-forgotten", "whoever serves a sink alone hears of a new limit of what may wait", "reload"},
    {"no-clock-lease", "the clock's promise is not written", "clock"},
    {"drops-uncounted", "a segment is dropped, but counted only with the next one", "drop-oldest"},
    {NULL, NULL, NULL},
};

const char *lab_control;

bool control_is(const char *name)
{
    return lab_control && strcmp(lab_control, name) == 0;
}

/* What the flush forgets: a control's name, and the path as a pattern. */
static const struct {
    const char *control, *path;
    bool is_directory;
} forgotten[] = {
    {"no-flush-of-journal-directory", "spool/journal", true},
    {"no-flush-of-segments-directory", "spool/segments", true},
    {"no-flush-of-directory", "spool", true},
    {"no-flush-of-parent", "", true},
    {"no-flush-of-parent", ".", true},
    {"no-flush-of-identity", "spool/spool.json*", false},
    {"no-flush-of-identity", "spool/.spool.json*", false},
    {"no-flush-of-new-journal", "spool/journal/*.tmp", false},
    {"no-flush-of-sink-directories", "out*", true},
    {"no-flush-of-sink-files", "out/*.jsonl", false},
    {"no-flush-of-compressed-files", "out/*.zst*", false},
    {"no-flush-of-compressed-files", "out/*.tmp", false},
    {"no-flush-of-sink-ledger", "out/.*.ledger*", false},
};

bool lab_forgets_flush(const char *path, bool is_directory)
{
    for (size_t i = 0; i < sizeof forgotten / sizeof *forgotten; i++) {
        if (forgotten[i].is_directory == is_directory && control_is(forgotten[i].control) &&
            fnmatch(forgotten[i].path, path, 0) == 0)
            return true;
    }
    return false;
}

static int flush_nothing(int fd)
{
    (void)fd;
    return 0;
}

void control_begin(void)
{
    static int (*real)(int fd);
    real = real ? real : journal_fdatasync;
    journal_fdatasync = control_is("ack-before-flush") ? flush_nothing : real;
}

bool control_is_of_recovery(void)
{
    return control_is("stops-at-bad-record") || control_is("begins-in-old-positions") || control_is("forgets-adopted");
}
