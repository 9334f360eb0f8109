# Two functions can be switched off, for the controls: see wrap.c.
LAB_LDFLAGS_wreck := -Wl,--wrap=pagecheck -Wl,--wrap=crc32c
