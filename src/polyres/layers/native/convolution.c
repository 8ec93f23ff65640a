/* Dense convolutions, 1x1 and larger, with LeakyReLU, added to what is there or to other features. */
#include "convolution.h"

#include <stdlib.h>
#include <string.h>

enum {
    VECTORS = 2, /* chunks of the output that are computed together */
    NARROW = 4
};

INLINE void pixels_of_layer(
    const layer *what, const float *const *rows, long apart, long block, float *out, long out_apart, const float *add,
    const int accumulate, const int count
) {
    vec sums[WIDE][VECTORS];
    const long depth = what->in_channels * what->size * what->size;
    const float *weights = what->weights + block * depth * VECTORS * LANES;
    const float *bias = what->bias + block * VECTORS * LANES;
    const int valid = what->out_chunks - block * VECTORS < VECTORS ? 1 : VECTORS;
    UNROLLED for (int i = 0; i < count; i++)
        UNROLLED for (int j = 0; j < VECTORS; j++) sums[i][j] = load(bias + j * LANES);
    for (long chunk = 0; chunk < in_chunks(what); chunk++) {
        const long left = what->in_channels - chunk * LANES;
        const int lanes = left < LANES ? (int)left : LANES;
        for (int tap = 0; tap < what->size * what->size; tap++) {
            const float *from = rows[tap / what->size] + chunk * apart + tap % what->size * LANES;
            for (int lane = 0; lane < lanes; lane++, weights += VECTORS * LANES) {
                vec kernel[VECTORS];
                UNROLLED for (int j = 0; j < VECTORS; j++) kernel[j] = load(weights + j * LANES);
                UNROLLED for (int i = 0; i < count; i++) {
                    vec value = from[i * LANES + lane] - (vec){0};
                    HELD(value);
                    UNROLLED for (int j = 0; j < VECTORS; j++) sums[i][j] += kernel[j] * value;
                }
            }
        }
    }
    const vec slope = (vec){0} + what->slope;
    UNROLLED for (int j = 0; j < VECTORS; j++) {
        if (j >= valid) break;
        UNROLLED for (int i = 0; i < count; i++) {
            const long pixel = j * out_apart + i * LANES;
            vec value = sums[i][j];
            if (accumulate) value += load(out + pixel);
            value = rectified(value, slope);
            if (add) value += load(add + pixel);
            store(out + pixel, value);
        }
    }
}

void row_of_layer(
    const layer *what, const float *const *start, long apart, float *out, long out_apart, const float *add,
    int accumulate, long width
) {
    for (long block = 0; block * VECTORS < what->out_chunks; block++) {
        const long first = block * VECTORS * out_apart;
        const float *rows[LARGEST];
        for (int i = 0; i < what->size; i++) rows[i] = start[i];
        for (long x = 0; x < width;) {
            const long left = width - x, at = first + x * LANES;
            const int step = left >= WIDE ? WIDE : left >= NARROW ? NARROW : 1;
            const float *more = add ? add + at : NULL;
            if (step == WIDE)
                pixels_of_layer(what, rows, apart, block, out + at, out_apart, more, accumulate, WIDE);
            else if (step == NARROW)
                pixels_of_layer(what, rows, apart, block, out + at, out_apart, more, accumulate, NARROW);
            else
                pixels_of_layer(what, rows, apart, block, out + at, out_apart, more, accumulate, 1);
            for (int i = 0; i < what->size; i++) rows[i] += step * LANES;
            x += step;
        }
    }
}

int open_window(window *through, const layer *what, const float *in, long height, long width, long first) {
    const long margin = what->size / 2, chunks = in_chunks(what), apart = (width + 2 * margin) * LANES;
    *through = (window){in, zeros(what->size * chunks * apart), chunks, height, width, what->size, apart, first - margin};
    return through->memory ? 0 : -1;
}

/* The leftmost pixel of a row, margin included. */
static float *slot_of(const window *through, long row) {
    return through->memory + (row + through->size) % through->size * through->chunks * through->apart;
}

void look_at(window *through, long row, const float **rows) {
    const long margin = through->size / 2, length = through->width * LANES;
    for (; through->next <= row + margin; through->next++) {
        float *to = slot_of(through, through->next) + margin * LANES;
        const float *from = through->in + through->next * length;
        const int inside = through->next >= 0 && through->next < through->height;
        for (long chunk = 0; chunk < through->chunks; chunk++, to += through->apart, from += through->height * length)
            if (inside) memcpy(to, from, length * sizeof(float));
            else memset(to, 0, length * sizeof(float));
    }
    for (int i = 0; i < through->size; i++) rows[i] = slot_of(through, row - margin + i);
}

typedef struct {
    const float *in, *add;
    float *out;
    const layer *what;
    long height, width, strips;
    int accumulate;
} convolution;

static int convolution_item(const void *argument, long item) {
    const convolution *job = argument;
    const layer *what = job->what;
    const long image = item / job->strips, length = job->width * LANES, plane = job->height * length;
    const long first = strip_start(job->height, job->strips, item % job->strips);
    const long last = strip_start(job->height, job->strips, item % job->strips + 1);
    const float *in = job->in + image * in_chunks(what) * plane;
    const long to = image * what->out_chunks * plane;
    window through = {0};
    if (what->size > 1 && open_window(&through, what, in, job->height, job->width, first)) return -1;
    for (long row = first; row < last; row++) {
        const float *rows[LARGEST] = {in + row * length};
        const long here = to + row * length;
        if (what->size > 1) look_at(&through, row, rows);
        row_of_layer(
            what, rows, what->size > 1 ? through.apart : plane, job->out + here, plane,
            job->add ? job->add + here : NULL, job->accumulate, job->width
        );
    }
    free(through.memory);
    return 0;
}

/* in, out and add: (images, chunks, height, width, LANES); add may be NULL. What is accumulated is added before the
 * LeakyReLU, what is in `add` after it. Returns 0, -1 where memory ran out, or -2 for a size that is not possible. */
int polyres_convolution(
    const float *in, float *out, const float *add, const layer *what, long images, long height, long width,
    int accumulate, int threads
) {
    if (!is_possible(what)) return -2;
    convolution job = {in, add, out, what, height, width, 4L * threads, accumulate};
    if (job.strips > height) job.strips = height;
    return share_out(convolution_item, &job, images * job.strips, threads);
}

int polyres_vectors(void) { return VECTORS; }
