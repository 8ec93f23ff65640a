/* Pixel attention: features times 1 + u / (1 + |u|), u being a mixture of a pixel's channels over their mean.
 *
 * Features lie as torch has them in channels_last, (pixel, channel), in whole vectors of channels. A pixel's sums are
 * added up in the same order wherever it lies, so that a part of a picture is computed as the whole is. */
#include "attention.h"

#include <stdlib.h>

enum { VECTORS = 2 }; /* of mixtures that are computed together */

INLINE vec magnitude(vec value) { return (vec)((mask)value & 0x7fffffff); }

INLINE float total(vec value) {
    float sum = 0;
    UNROLLED for (int lane = 0; lane < LANES; lane++) sum += value[lane];
    return sum;
}

/* 1 over the mean of a pixel's channels. */
INLINE float share_of(const attention *job, const float *in) {
    vec sum = load_any(in);
    for (long i = LANES; i < job->channels; i += LANES) sum += load_any(in + i);
    return 1 / (total(sum) / (float)job->channels + job->least);
}

/* `vectors` vectors of the mixtures of `count` pixels that are `apart`; weights: (depth in, width out). */
INLINE void mix(
    const float *in, const float *weights, float *to, long apart, long depth, long width, const int count,
    const int vectors
) {
    vec sums[WIDE][VECTORS];
    UNROLLED for (int i = 0; i < count; i++)
        UNROLLED for (int j = 0; j < vectors; j++) sums[i][j] = (vec){0};
    for (long channel = 0; channel < depth; channel++, weights += width) {
        vec row[VECTORS];
        UNROLLED for (int j = 0; j < vectors; j++) row[j] = load_any(weights + j * LANES);
        UNROLLED for (int i = 0; i < count; i++) {
            vec value = in[i * apart + channel] - (vec){0};
            HELD(value);
            UNROLLED for (int j = 0; j < vectors; j++) sums[i][j] += row[j] * value;
        }
    }
    UNROLLED for (int i = 0; i < count; i++)
        UNROLLED for (int j = 0; j < vectors; j++) store_any(to + i * apart + j * LANES, sums[i][j]);
}

INLINE void mix_all(const float *in, const float *weights, float *to, long apart, long size, const int count) {
    long first = 0;
    for (; first + VECTORS * LANES <= size; first += VECTORS * LANES)
        mix(in, weights + first, to + first, apart, size, size, count, VECTORS);
    if (first < size) mix(in, weights + first, to + first, apart, size, size, count, 1);
}

/* The mixtures of `count` pixels; halves: room for them, where the weights keep opposites. */
INLINE void mixtures(const attention *job, const float *in, float *halves, float *to, const int count) {
    const long channels = job->channels, half = channels / 2;
    if (!job->opposed) {
        mix_all(in, job->weights, to, channels, channels, count);
        return;
    }
    for (int i = 0; i < count; i++)
        for (long j = 0; j < half; j += LANES) {
            const float *from = in + i * channels + 2 * j;
            const vec first = load_opposed(from), second = load_opposed(from + 8);
            store_any(halves + i * channels + j, first + second);
            store_any(halves + i * channels + half + j, first - second);
        }
    mix_all(halves, job->weights, to, channels, half, count);
    mix_all(halves + half, job->weights + half * half, to + half, channels, half, count);
    for (int i = 0; i < count; i++) {
        const float *mixed = to + i * channels;
        float *whole = halves + i * channels;
        for (long j = 0; j < half; j += LANES) {
            const vec sum = load_any(mixed + j), difference = load_any(mixed + half + j);
            store_opposed(whole + 2 * j, sum + difference);
            store_opposed(whole + 2 * j + 8, sum - difference);
        }
    }
}

long attention_room(long channels) { return 2 * WIDE * channels; }

void attend(const attention *job, long first, long last, float *room) {
    const long channels = job->channels;
    float *halves = room + WIDE * channels;
    const float *mixed = job->opposed ? halves : room;
    for (long pixel = first; pixel < last;) {
        const long count = last - pixel < WIDE ? 1 : WIDE;
        if (count == WIDE) mixtures(job, job->in + pixel * channels, halves, room, WIDE);
        else mixtures(job, job->in + pixel * channels, halves, room, 1);
        for (long i = 0; i < count; i++, pixel++) {
            const float *in = job->in + pixel * channels, *from = mixed + i * channels;
            const vec share = share_of(job, in) - (vec){0};
            for (long j = 0; j < channels; j += LANES) {
                const vec mixture = share * load_any(from + j), sign = mixture / (1 + magnitude(mixture));
                if (job->signs) store_any(job->signs + pixel * channels + j, sign);
                store_any(job->out + pixel * channels + j, load_any(in + j) * (1 + sign));
            }
        }
    }
}

static int forward_item(const void *argument, long item) {
    const attention *job = argument;
    float *room = zeros(attention_room(job->channels));
    if (!room) return -1;
    attend(job, strip_start(job->pixels, job->items, item), strip_start(job->pixels, job->items, item + 1), room);
    free(room);
    return 0;
}

/* With s for the kept sign: d mixed = gradient in (1 - |s|)^2 share; the rest of d in is gradient (1 + s) less what the
 * mean takes, the same for all channels: the mean of d mixed times the mixture before it was divided, times share. */
static int backward_item(const void *argument, long item) {
    const attention *job = argument;
    const long last = strip_start(job->pixels, job->items, item + 1);
    for (long pixel = strip_start(job->pixels, job->items, item); pixel < last; pixel++) {
        const long place = pixel * job->channels;
        const vec share = share_of(job, job->in + place) - (vec){0};
        vec sum = {0};
        for (long i = place; i < place + job->channels; i += LANES) {
            const vec sign = load_any(job->kept + i), rest = 1 - magnitude(sign);
            const vec change = load_any(job->gradient + i) * load_any(job->in + i) * rest;
            store_any(job->signs + i, change * rest * share);
            sum += change * sign; /* the mixture is sign / rest */
        }
        const vec taken = total(sum) / (float)job->channels * share;
        for (long i = place; i < place + job->channels; i += LANES)
            store_any(job->out + i, load_any(job->gradient + i) * (1 + load_any(job->kept + i)) - taken);
    }
    return 0;
}

int may_attend(long channels, int opposed) { return channels % (opposed ? 2 * LANES : LANES) == 0; }

static int run(work_fn work, attention job, int threads) {
    if (!may_attend(job.channels, job.opposed)) return -2;
    job.items = threads == 1 || job.pixels < 64 ? 1 : 4L * threads;
    return share_out(work, &job, job.items, threads);
}

/* out = in * (1 + sign), sign = u / (1 + |u|), u = mixed / (mean of in's channels + least), mixed = in by weights.
 * in and out: (pixels, channels); weights: (channels in, channels out); signs: like out, where they are kept, or NULL.
 * opposed: weights keep opposites, and are given for sums and for differences of opposites, half of each.
 * Returns 0, -1 where memory ran out, or -2 where channels do not fill vectors. */
int polyres_attention(
    const float *in, const float *weights, float *out, float *signs, long pixels, long channels, float least,
    int opposed, int threads
) {
    return run(
        forward_item,
        (attention){.in = in, .weights = weights, .out = out, .signs = signs, .pixels = pixels, .channels = channels,
                    .least = least, .opposed = opposed},
        threads
    );
}

/* The gradients of mixed, and of in without what comes by mixed, given that of out. Result as above. */
int polyres_attention_gradient(
    const float *gradient, const float *in, const float *signs, float *of_mixed, float *of_in, long pixels,
    long channels, float least, int threads
) {
    return run(
        backward_item,
        (attention){.in = in, .kept = signs, .gradient = gradient, .out = of_in, .signs = of_mixed, .pixels = pixels,
                    .channels = channels, .least = least},
        threads
    );
}
