/* own_journal.pml - the committer replaces a failed journal while the keeper of the same process looks for dead ones.
 *
 * A record lock does not keep a process from itself: the keeper must know by name what is ours, also while the new file is
 * there and the ring does not point to it yet; and closing a descriptor of one's own file would give its lock away.
 *
 * Asserted: the keeper never takes a journal of its own process. */

#define OLD 1
#define NEW 2
#define NONE 0

bool removed, made; /* the old one, the new one */
#define EXISTS(file) ((file) == OLD && !removed || (file) == NEW && made)
byte ring = OLD, retired = NONE;
bool replacing;
bool mutex; /* append_mutex */

#define LOCK(m) atomic { !m -> m = true }
#define UNLOCK(m) m = false

/* replace_journal(); later free_retired(). */
active proctype committer()
{
    LOCK(mutex);
#ifndef CONTROL_NO_REPLACING
    replacing = true;
#endif
    UNLOCK(mutex);
    made = true; /* recovery_own_journal(): renamed in place, locked */
    LOCK(mutex);
    replacing = false;
    retired = OLD;
    ring = NEW;
    UNLOCK(mutex);
    LOCK(mutex);
    removed = true;
    retired = NONE;
    UNLOCK(mutex)
}

/* sweep_one() of each name that the directory shows, is_ours(). */
active proctype keeper()
{
    byte file = OLD, times = 2;
    bool ours;
    do
    :: file <= NEW ->
        if
        :: EXISTS(file) ->
            LOCK(mutex);
            ours = replacing || ring == file || retired == file;
            UNLOCK(mutex);
            if
            :: !ours && EXISTS(file) ->
                assert(false)
            :: else
            fi
        :: else
        fi;
        file++
    :: file > NEW && times > 0 -> file = OLD; times--
    :: else -> break
    od
}
