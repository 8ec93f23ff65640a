/* Chains of pairs: two 3x3 convolutions of different dilation, of one or two channels a group, each with its PReLU,
 * added; one pair after another, and the chain's input added at the end.
 *
 * No channel leaves its group, so a chunk goes through the whole chain by itself, a row at a time: each pair keeps as
 * many rows of its input as it looks at, and nothing but the chain's input and output touches main memory.
 */
#include <stdlib.h>
#include <string.h>

#include "common.h"

enum {
    BRANCH = 21, /* vectors of a branch: 9 taps to the own and to the group's other channel, bias, two factors */
    PAIR = 2 * BRANCH,
    MOST_PAIRS = 16
};

typedef struct {
    const float *in;
    float *out;
    long chunks, height, width, strips;
    int pairs, skip;
    const int *dilations; /* near and far of each pair */
    const float *kernels; /* [chunk][pair][PAIR][LANES] */
} chain;

/* The last rows of one pair's input, zero beyond the picture on every side. */
typedef struct {
    float *memory;
    long rows, margin, length; /* length in floats, margins included */
} band;

static long reach_of(const chain *job, int pair) {
    int near = job->dilations[2 * pair], far = job->dilations[2 * pair + 1];
    return near > far ? near : far;
}

/* The first pixel of a row inside the margins. */
INLINE float *row_of(const band *from, long row) {
    long slot = (row + (from->rows << 20)) % from->rows;
    return from->memory + slot * from->length + from->margin * LANES;
}

INLINE vec magnitude(vec value) { return (vec)((mask)value & 0x7fffffff); }

/* Lanes 0 and 1, 2 and 3, ... exchanged. */
INLINE vec swapped(vec value) {
    mask order;
    UNROLLED for (int i = 0; i < LANES; i++) order[i] = i ^ 1;
#ifdef __clang__
    vec result;
    UNROLLED for (int i = 0; i < LANES; i++) result[i] = value[i ^ 1];
    (void)order;
    return result;
#else
    return __builtin_shuffle(value, order);
#endif
}

/* PReLU with slope s is (1 + s) / 2 * value + (1 - s) / 2 * |value|: two multiply-adds onto what is there. */
INLINE void pixels_of_pair(
    const float *const *rows, const int *dilations, const float *kernel, float *out, const int count
) {
    for (int branch = 0; branch < 2; branch++, kernel += BRANCH * LANES) {
        vec own[TWIN], other[TWIN];
        const vec bias = load(kernel + 18 * LANES);
        UNROLLED for (int i = 0; i < count; i++) own[i] = bias, other[i] = (vec){0};
        const long apart = (long)dilations[branch] * LANES;
        const float *weights = kernel;
        for (int row = 0; row < 3; row++) {
            const float *from = rows[3 * branch + row] - apart;
            UNROLLED for (int tap = 0; tap < 3; tap++, from += apart, weights += 2 * LANES) {
                const vec direct = load(weights), crossed = load(weights + LANES);
                UNROLLED for (int i = 0; i < count; i++) {
                    vec value = load(from + i * LANES);
                    HELD(value);
                    own[i] += direct * value;
                    other[i] += crossed * value;
                }
            }
        }
        const vec straight = load(kernel + 19 * LANES), folded = load(kernel + 20 * LANES);
        UNROLLED for (int i = 0; i < count; i++) {
            const vec value = own[i] + swapped(other[i]);
            vec sum = straight * value + folded * magnitude(value);
            if (branch) sum += load(out + i * LANES);
            store(out + i * LANES, sum);
        }
    }
}

/* `ahead`: a row that will be needed soon, of the same width; it is fetched from main memory meanwhile. */
static void row_of_pair(
    const band *from, long row, const int *dilations, const float *kernel, float *out, const float *ahead, long width
) {
    const float *rows[6];
    for (int i = 0; i < 6; i++) rows[i] = row_of(from, row + (i % 3 - 1) * dilations[i / 3]);
    for (long x = 0; x < width;) {
        const int step = width - x >= TWIN ? TWIN : 1;
        for (int i = 0; i < step; i++) __builtin_prefetch(ahead + (x + i) * LANES, 0, 2);
        if (step == TWIN)
            pixels_of_pair(rows, dilations, kernel, out + x * LANES, TWIN);
        else
            pixels_of_pair(rows, dilations, kernel, out + x * LANES, 1);
        for (int i = 0; i < 6; i++) rows[i] += step * LANES;
        x += step;
    }
}

/* Take rows first, ..., last - 1 of one chunk through the chain. */
static void run_chain(const chain *job, band *bands, long item, long first, long last) {
    const long size = job->width * LANES, plane = job->height * size;
    const float *in = job->in + item * plane, *kernels = job->kernels + item % job->chunks * job->pairs * PAIR * LANES;
    long halo = 0;
    for (int pair = 0; pair < job->pairs; pair++) halo += reach_of(job, pair);
    for (long newest = first - halo; newest < last + halo; newest++) {
        const int inside = newest >= 0 && newest < job->height;
        float *to = row_of(&bands[0], newest);
        if (inside) memcpy(to, in + newest * size, size * sizeof(float));
        else memset(to, 0, size * sizeof(float));
        long row = newest, margin = halo;
        for (int pair = 0; pair < job->pairs; pair++) {
            const long reach = reach_of(job, pair);
            const int is_last = pair == job->pairs - 1;
            row -= reach, margin -= reach;
            if (row < first - margin) break;
            float *result = is_last ? job->out + item * plane + row * size : row_of(&bands[pair + 1], row);
            if (row < 0 || row >= job->height) {
                memset(result, 0, size * sizeof(float));
                continue;
            }
            const float *ahead = is_last ? result + size : in + (newest + 1) * size;
            row_of_pair(
                &bands[pair], row, job->dilations + 2 * pair, kernels + pair * PAIR * LANES, result, ahead, job->width
            );
            if (is_last && job->skip)
                for (long i = 0; i < size; i += LANES) store(result + i, load(result + i) + load(in + row * size + i));
        }
    }
}

static int chain_item(const void *argument, long item) {
    const chain *job = argument;
    band bands[MOST_PAIRS];
    size_t total = 0;
    for (int pair = 0; pair < job->pairs; pair++) {
        const long reach = reach_of(job, pair);
        bands[pair] = (band){NULL, 2 * reach + 1, reach, (job->width + 2 * reach) * LANES};
        total += bands[pair].rows * bands[pair].length;
    }
    float *memory = zeros(total), *free_from = memory;
    if (!memory) return -1;
    for (int pair = 0; pair < job->pairs; pair++) {
        bands[pair].memory = free_from;
        free_from += bands[pair].rows * bands[pair].length;
    }
    const long strip = item % job->strips;
    run_chain(
        job, bands, item / job->strips, strip_start(job->height, job->strips, strip),
        strip_start(job->height, job->strips, strip + 1)
    );
    free(memory);
    return 0;
}

/* in and out: (images, chunks, height, width, LANES), not the same memory. Returns 0, or -1 where memory ran out. */
int polyres_pairs(
    const float *in, float *out, long images, long chunks, long height, long width, int pairs, const int *dilations,
    const float *kernels, int skip, int threads
) {
    if (pairs < 1 || pairs > MOST_PAIRS) return -2;
    chain job = {in, out, chunks, height, width, 1, pairs, skip, dilations, kernels};
    long halo = 0;
    for (int pair = 0; pair < pairs; pair++) halo += reach_of(&job, pair);
    /* Strips repeat their halo, so there are only as many as keep the threads busy, and none of them is thin. */
    const long wanted = images * chunks % threads ? (2 * threads + images * chunks - 1) / (images * chunks) : 1;
    const long most = height / (4 * halo + 1);
    job.strips = wanted < most ? wanted : most > 1 ? most : 1;
    return share_out(chain_item, &job, images * chunks * job.strips, threads);
}
