/* Dense convolutions, 1x1 and larger, with LeakyReLU, added to what is there or to other features. */
#include <stdlib.h>
#include <string.h>

#include "common.h"

enum {
    VECTORS = 2, /* chunks of the output that are computed together */
    NARROW = 4,
    LARGEST = 9
};

typedef struct {
    const float *in, *weights, *bias, *add;
    float *out;
    long in_channels, height, width, out_chunks, in_image, out_image, strips;
    int size, accumulate;
    float slope;
} convolution;

static long chunks_of(const convolution *job) { return (job->in_channels + LANES - 1) / LANES; }

/* rows: the `size` rows of the input that are looked at, from the leftmost pixel on, their chunks `apart` floats. */
INLINE void pixels_of_convolution(
    const convolution *job, const float *const *rows, long apart, long block, long at, const int count
) {
    vec sums[WIDE][VECTORS];
    const long plane = job->height * job->width * LANES, in_chunks = chunks_of(job);
    const long depth = job->in_channels * job->size * job->size;
    const float *weights = job->weights + block * depth * VECTORS * LANES;
    const float *bias = job->bias + block * VECTORS * LANES;
    const int valid = job->out_chunks - block * VECTORS < VECTORS ? 1 : VECTORS;
    float *out = job->out + block * VECTORS * plane + at;
    const float *add = job->add ? job->add + block * VECTORS * plane + at : NULL;
    UNROLLED for (int i = 0; i < count; i++)
        UNROLLED for (int j = 0; j < VECTORS; j++) sums[i][j] = load(bias + j * LANES);
    for (long chunk = 0; chunk < in_chunks; chunk++) {
        const long left = job->in_channels - chunk * LANES;
        const int lanes = left < LANES ? (int)left : LANES;
        for (int tap = 0; tap < job->size * job->size; tap++) {
            const float *from = rows[tap / job->size] + chunk * apart + tap % job->size * LANES;
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
    const vec slope = (vec){0} + job->slope;
    UNROLLED for (int j = 0; j < VECTORS; j++) {
        if (j >= valid) break;
        UNROLLED for (int i = 0; i < count; i++) {
            const long pixel = j * plane + i * LANES;
            vec value = sums[i][j];
            if (job->accumulate) value += load(out + pixel);
            value = rectified(value, slope);
            if (add) value += load(add + pixel);
            store(out + pixel, value);
        }
    }
}

/* `width` pixels that follow each other in the output from float `at` of a chunk on. */
static void row_of_convolution(
    const convolution *job, const float *const *start, long apart, long at, long width
) {
    for (long block = 0; block * VECTORS < job->out_chunks; block++) {
        const float *rows[LARGEST];
        for (int i = 0; i < job->size; i++) rows[i] = start[i];
        for (long x = 0; x < width;) {
            const long left = width - x, here = at + x * LANES;
            const int step = left >= WIDE ? WIDE : left >= NARROW ? NARROW : 1;
            if (step == WIDE)
                pixels_of_convolution(job, rows, apart, block, here, WIDE);
            else if (step == NARROW)
                pixels_of_convolution(job, rows, apart, block, here, NARROW);
            else
                pixels_of_convolution(job, rows, apart, block, here, 1);
            for (int i = 0; i < job->size; i++) rows[i] += step * LANES;
            x += step;
        }
    }
}

/* Rows first, ..., last - 1 with a kernel of several taps: the rows looked at are kept with zeros around them. */
static int run_padded(const convolution *job, long first, long last) {
    const long margin = job->size / 2, chunks = chunks_of(job), size = job->width * LANES;
    const long apart = (job->width + 2 * margin) * LANES, slot = chunks * apart, plane = job->height * size;
    float *memory = zeros(job->size * slot);
    if (!memory) return -1;
    for (long newest = first - margin; newest < last + margin; newest++) {
        float *to = memory + (newest + job->size) % job->size * slot + margin * LANES;
        for (long chunk = 0; chunk < chunks; chunk++) {
            if (newest >= 0 && newest < job->height)
                memcpy(to + chunk * apart, job->in + chunk * plane + newest * size, size * sizeof(float));
            else
                memset(to + chunk * apart, 0, size * sizeof(float));
        }
        const long row = newest - margin;
        if (row < first) continue;
        const float *rows[LARGEST];
        for (int i = 0; i < job->size; i++)
            rows[i] = memory + (row - margin + i + job->size) % job->size * slot;
        row_of_convolution(job, rows, apart, row * size, job->width);
    }
    free(memory);
    return 0;
}

static int convolution_item(const void *argument, long item) {
    convolution job = *(const convolution *)argument;
    const long image = item / job.strips, strip = item % job.strips, plane = job.height * job.width * LANES;
    const long first = strip_start(job.height, job.strips, strip);
    const long last = strip_start(job.height, job.strips, strip + 1);
    job.in += image * job.in_image;
    job.out += image * job.out_image;
    if (job.add) job.add += image * job.out_chunks * plane;
    if (job.size > 1) return run_padded(&job, first, last);
    for (long row = first; row < last; row++) {
        const float *start = job.in + row * job.width * LANES;
        row_of_convolution(&job, &start, plane, row * job.width * LANES, job.width);
    }
    return 0;
}

/* in: (images, chunks of in_channels, height, width, LANES), its images `in_image` floats apart, and out likewise;
 * add: like out, but contiguous, or NULL. What is accumulated is added before the LeakyReLU, what is in `add` after it.
 * weights: [block of VECTORS chunks][chunk of the input][tap][lane][VECTORS][LANES]. Returns 0, or -1 where memory ran
 * out. */
int polyres_convolution(
    const float *in, float *out, const float *add, long images, long height, long width, long in_channels,
    long out_chunks, long in_image, long out_image, int size, const float *weights, const float *bias, float slope,
    int accumulate, int threads
) {
    if (size < 1 || size > LARGEST || size % 2 == 0) return -2;
    convolution job = {in,     weights,    bias,     add,       out,  in_channels, height, width,
                       out_chunks, in_image, out_image, 4L * threads, size, accumulate,  slope};
    if (job.strips > height) job.strips = height;
    return share_out(convolution_item, &job, images * job.strips, threads);
}

int polyres_vectors(void) { return VECTORS; }
