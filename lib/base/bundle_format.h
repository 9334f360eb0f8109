/* bundle_format.h - what reading and writing of shared bundles have in common. (bundle.c has the format in prose.)
 * Private to bundle.c and bundle_write.c. */
#ifndef BASE_BUNDLE_FORMAT_H
#define BASE_BUNDLE_FORMAT_H

enum {
    BUNDLE_FOOTER = 20, /* base id, number of envelopes */
    NUMBER_MAX = 8,
    ID_LATER = 0, /* in the low bits of an id's first number */
    ID_LATER_COUNTED = 1,
    ID_EARLIER_COUNTED = 2,
    ID_WHOLE = 3,
    ID_HOW_BITS = 2,
};

#endif
