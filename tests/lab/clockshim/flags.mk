# A shared object, to be preloaded: tests/system/clock.py.
LAB_LDFLAGS_clockshim := -shared
