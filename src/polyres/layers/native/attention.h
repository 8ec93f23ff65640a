/* Pixel attention for other kernels to apply to what they have just made. */
#ifndef POLYRES_ATTENTION_H
#define POLYRES_ATTENTION_H

#include "common.h"

typedef struct {
    const float *in, *weights, *kept, *gradient;
    float *out, *factors, *sums;
    long pixels, channels, items;
    float least, part; /* part: 1 / channels */
    int opposed, rectified;
} attention;

/* Whether there are kernels for so many channels. */
int may_attend(long channels, int opposed);

/* Floats of the room below. */
long attention_room(long channels);

/* Weigh the pixels from `first` to before `last`; out may be in. */
void attend(const attention *job, long first, long last, float *room);

#endif
