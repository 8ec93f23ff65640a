/* What lies between the convolutions of a residual block, on features of bfloat16: one pass over memory for each.
 *
 * Convolutions are torch's there, on matrix units, and take less time than such passes one operation at a time. Sums and
 * products are of float32; features lie as torch has them in channels_last, (pixel, channel), in whole vectors. */
#include <stdint.h>

#include "common.h"

/* From bfloat16, the upper halves of floats, and to the nearest, of two as near to the even one. */
#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)
INLINE vec widened(const uint16_t *from) {
    return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16);
}

INLINE void narrowed(uint16_t *to, vec value) {
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh((__m512)value));
}
#else
typedef uint16_t halves __attribute__((vector_size(2 * LANES), may_alias, aligned(2)));
typedef uint32_t bits __attribute__((vector_size(4 * LANES), may_alias));

INLINE vec widened(const uint16_t *from) {
    return (vec)(__builtin_convertvector(*(const halves *)from, bits) << 16);
}

INLINE void narrowed(uint16_t *to, vec value) {
    const bits whole = (bits)value;
    *(halves *)to = __builtin_convertvector((whole + 0x7fff + ((whole >> 16) & 1)) >> 16, halves);
}
#endif

typedef struct {
    const uint16_t *in, *mixture, *gradient, *further;
    const float *wide;
    uint16_t *out, *of_mixture;
    float *share, *sum;
    long pixels, channels, items;
    float least;
} passage;

INLINE void bounds(const passage *job, long item, long *first, long *last) {
    *first = strip_start(job->pixels, job->items, item), *last = strip_start(job->pixels, job->items, item + 1);
}

static int weigh(const void *argument, long item) {
    const passage *job = argument;
    const long channels = job->channels;
    long pixel, last;
    for (bounds(job, item, &pixel, &last); pixel < last; pixel++) {
        const long place = pixel * channels;
        vec sum = {0};
        for (long i = place; i < place + channels; i += LANES) sum += widened(job->in + i);
        const float share = job->share[pixel] = 1 / (total(sum) / channels + job->least);
        for (long i = place; i < place + channels; i += LANES)
            narrowed(job->out + i, widened(job->in + i) * positive(1 + widened(job->mixture + i) * share));
    }
    return 0;
}

/* As in attention.c, but that the factor is made again: keeping it would take memory twice as wide. */
static int differentiate(const void *argument, long item) {
    const passage *job = argument;
    const long channels = job->channels;
    long pixel, last;
    for (bounds(job, item, &pixel, &last); pixel < last; pixel++) {
        const long place = pixel * channels;
        const float share = job->share[pixel];
        vec sum = {0};
        for (long i = place; i < place + channels; i += LANES) {
            const vec mixture = widened(job->mixture + i), factor = 1 + mixture * share;
            const vec product = widened(job->gradient + i) * widened(job->in + i);
            const vec change = (vec)((mask)product & (factor > 0));
            narrowed(job->of_mixture + i, change * share);
            sum += change * mixture;
        }
        const float taken = total(sum) * share * share / channels;
        for (long i = place; i < place + channels; i += LANES) {
            const vec factor = positive(1 + widened(job->mixture + i) * share);
            narrowed(job->out + i, widened(job->gradient + i) * factor - taken);
        }
    }
    return 0;
}

static int rectify(const void *argument, long item) {
    const passage *job = argument;
    long pixel, last;
    bounds(job, item, &pixel, &last);
    for (long i = pixel * job->channels; i < last * job->channels; i += LANES) {
        vec value = widened(job->gradient + i);
        if (job->further) value += widened(job->further + i);
        narrowed(job->out + i, (vec)((mask)value & (widened(job->in + i) > 0)));
    }
    return 0;
}

static int add(const void *argument, long item) {
    const passage *job = argument;
    long pixel, last;
    bounds(job, item, &pixel, &last);
    for (long i = pixel * job->channels; i < last * job->channels; i += LANES)
        store_any(job->sum + i, load_any(job->wide + i) + widened(job->in + i));
    return 0;
}

static int pass(work_fn work, passage job, int threads) {
    if (job.channels % LANES) return -2;
    job.items = threads;
    return share_out(work, &job, job.items, threads);
}

/* out = in * max(0, 1 + mixture * share), share = 1 / (mean of in's channels + least), which is kept for each pixel.
 * in, mixture, out: (pixels, channels). Returns 0, -1 where memory ran out, or -2 where channels do not fill vectors. */
int polyres_narrow_attention(
    const uint16_t *in, const uint16_t *mixture, uint16_t *out, float *share, long pixels, long channels, float least,
    int threads
) {
    const passage job = {
        .in = in, .mixture = mixture, .out = out, .share = share, .pixels = pixels, .channels = channels, .least = least
    };
    return pass(weigh, job, threads);
}

/* The gradients of mixture, and of in, out, but for what goes through mixture, given that of the product. */
int polyres_narrow_attention_gradient(
    const uint16_t *gradient, const uint16_t *in, const uint16_t *mixture, float *share, uint16_t *of_mixture,
    uint16_t *out, long pixels, long channels, int threads
) {
    const passage job = {
        .gradient = gradient, .in = in, .mixture = mixture, .share = share, .of_mixture = of_mixture, .out = out,
        .pixels = pixels, .channels = channels
    };
    return pass(differentiate, job, threads);
}

/* out = gradient [+ further] where in is positive, zero elsewhere; out may be any of the others. */
int polyres_narrow_rectified(
    const uint16_t *gradient, const uint16_t *further, const uint16_t *in, uint16_t *out, long pixels, long channels,
    int threads
) {
    const passage job = {
        .gradient = gradient, .further = further, .in = in, .out = out, .pixels = pixels, .channels = channels
    };
    return pass(rectify, job, threads);
}

/* sum = wide + in, both of them float32. */
int polyres_narrow_sum(
    const float *wide, const uint16_t *in, float *sum, long pixels, long channels, int threads
) {
    const passage job = {.wide = wide, .in = in, .sum = sum, .pixels = pixels, .channels = channels};
    return pass(add, job, threads);
}
