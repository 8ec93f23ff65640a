/* Dense convolutions a row at a time, for kernels that are made of several. */
#ifndef POLYRES_CONVOLUTION_H
#define POLYRES_CONVOLUTION_H

#include "common.h"

enum { LARGEST = 9 }; /* taps per axis */

/* A convolution and its LeakyReLU. The binding has the same structure.
 * weights: [block of VECTORS chunks of the output][chunk of the input][tap][lane][VECTORS][LANES] */
typedef struct {
    const float *weights, *bias;
    long in_channels, out_chunks;
    int size;
    float slope;
} layer;

INLINE long in_chunks(const layer *what) { return (what->in_channels + LANES - 1) / LANES; }

INLINE int is_possible(const layer *what) { return what->size >= 1 && what->size <= LARGEST && what->size % 2; }

/* One row: out = leaky(convolution [+ out]) [+ add].
 * rows: the `size` rows of the input that are looked at, from the leftmost pixel that is; their chunks `apart` floats.
 * out: its chunks `out_apart` floats, and those of `add`, which may be NULL. */
void row_of_layer(
    const layer *what, const float *const *rows, long apart, float *out, long out_apart, const float *add,
    int accumulate, long width
);

/* The last rows of features that a convolution of several taps looks at, zero beyond the picture on every side. */
typedef struct {
    const float *in; /* (chunks, height, width, LANES) */
    float *memory;
    long chunks, height, width, size, apart, next;
} window;

/* A window that rows from `first` on will be looked at through; 0, or -1 where memory ran out. free() its memory. */
int open_window(window *through, const layer *what, const float *in, long height, long width, long first);

/* Where the rows around `row` are, for row_of_layer; `row` is one more from call to call. */
void look_at(window *through, long row, const float **rows);

#endif
