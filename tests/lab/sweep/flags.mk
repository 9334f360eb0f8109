# Functions that controls replace, see controls.c.
LAB_LDFLAGS_sweep := -Wl,--wrap=journal_flush,--wrap=log_commit,--wrap=store_flush,--wrap=packer_free
