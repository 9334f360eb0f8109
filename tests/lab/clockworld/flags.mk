# What the controls break on purpose, and chance: see wrap.c.
clockworld_wrapped := majority_find anchor_age hlc_now hlc_update wall_compare getrandom
clockworld_comma := ,
LAB_LDFLAGS_clockworld := $(foreach name,$(clockworld_wrapped),-Wl$(clockworld_comma)--wrap=$(name))
