/* Pixel attention: features times what is positive of 1 + u, u being a mixture of a pixel's channels over their mean.
 *
 * Features lie as torch has them in channels_last, (pixel, channel), in whole vectors of channels. A pixel's sums are
 * added up in the same order wherever it lies, so that a part of a picture is computed as the whole is. */
#include "attention.h"

#include <stdlib.h>

enum { VECTORS = 2 }; /* of mixtures that are computed together */
enum { ROWS = 4 };    /* of sums of products: divides all channels */

/* What mixtures are multiplied by: one over the mean of a pixel's channels, and a little. */
INLINE vec share_of(const attention *job, const float *in) {
    vec sum = load_any(in);
    for (long i = LANES; i < job->channels; i += LANES) sum += load_any(in + i);
    return 1 / (total(sum) * job->part + job->least) - (vec){0};
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

/* Sums of opposites, then their differences, of `count` pixels. */
INLINE void split(const float *in, float *halves, long channels, const int count) {
    for (int i = 0; i < count; i++, in += channels, halves += channels)
        for (long j = 0; j < channels / 2; j += LANES) {
            const vec first = load_opposed(in + 2 * j), second = load_opposed(in + 2 * j + 8);
            store_any(halves + j, first + second);
            store_any(halves + channels / 2 + j, first - second);
        }
}

/* Back from those. */
INLINE void join(const float *halves, float *to, long channels, const int count) {
    for (int i = 0; i < count; i++, to += channels, halves += channels)
        for (long j = 0; j < channels / 2; j += LANES) {
            const vec sum = load_any(halves + j), difference = load_any(halves + channels / 2 + j);
            store_opposed(to + 2 * j, sum + difference);
            store_opposed(to + 2 * j + 8, sum - difference);
        }
}

/* The mixtures of `count` pixels, in `room`; where the weights keep opposites, it begins with what `split` made. */
INLINE const float *mixtures(const attention *job, const float *in, float *room, const int count) {
    const long channels = job->channels, half = channels / 2;
    float *mixed = room + WIDE * channels, *whole = mixed + WIDE * channels;
    if (!job->opposed) {
        mix_all(in, job->weights, mixed, channels, channels, count);
        return mixed;
    }
    split(in, room, channels, count);
    mix_all(room, job->weights, mixed, channels, half, count);
    mix_all(room + half, job->weights + half * half, mixed + half, channels, half, count);
    join(mixed, whole, channels, count);
    return whole;
}

long attention_room(long channels) { return 3 * WIDE * channels; }

void attend(const attention *job, long first, long last, float *room) {
    const long channels = job->channels;
    for (long pixel = first; pixel < last;) {
        const long count = last - pixel < WIDE ? 1 : WIDE;
        const float *here = job->in + pixel * channels;
        const float *mixed = count == WIDE ? mixtures(job, here, room, WIDE) : mixtures(job, here, room, 1);
        for (long i = 0; i < count; i++, pixel++) {
            const float *in = job->in + pixel * channels, *from = mixed + i * channels;
            float *out = job->out + pixel * channels, *factors = job->factors ? job->factors + pixel * channels : NULL;
            const vec share = share_of(job, in);
            for (long j = 0; j < channels; j += LANES) {
                const vec factor = positive(1 + load_any(from + j) * share);
                if (factors) store_any(factors + j, factor);
                store_any(out + j, load_any(in + j) * factor);
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

/* Of `count` pixels: sums[first][second] += products of the channels of `first` by those of `second`. */
INLINE void add_products(
    const float *first, const float *second, float *sums, long apart, long size, const int count, const int vectors
) {
    vec held[ROWS][VECTORS];
    UNROLLED for (int i = 0; i < ROWS; i++)
        UNROLLED for (int j = 0; j < vectors; j++) held[i][j] = load_any(sums + i * size + j * LANES);
    for (int pixel = 0; pixel < count; pixel++, first += apart, second += apart)
        UNROLLED for (int i = 0; i < ROWS; i++)
            UNROLLED for (int j = 0; j < vectors; j++) held[i][j] += load_any(second + j * LANES) * first[i];
    UNROLLED for (int i = 0; i < ROWS; i++)
        UNROLLED for (int j = 0; j < vectors; j++) store_any(sums + i * size + j * LANES, held[i][j]);
}

INLINE void add_all(const float *first, const float *second, float *sums, long apart, long size, const int count) {
    for (long row = 0; row < size; row += ROWS) {
        float *here = sums + row * size;
        long column = 0;
        for (; column + VECTORS * LANES <= size; column += VECTORS * LANES)
            add_products(first + row, second + column, here + column, apart, size, count, VECTORS);
        if (column < size) add_products(first + row, second + column, here + column, apart, size, count, 1);
    }
}

static long sums_of(long channels, int opposed) { return channels * channels / (opposed ? 2 : 1); }

/* With f for the kept factor: d mixed = gradient in share where f is positive, zero elsewhere. d in is gradient f, less
 * what the mean takes, the same for all channels: the mean of d mixed times the mixture, which is f - 1 over share,
 * times share; and d mixed by the weights, which are transposed. */
INLINE void differentiate(const attention *job, long first, float *room, float *sums, const int count) {
    const long channels = job->channels, half = channels / 2, place = first * channels;
    float *of_mixed = room + attention_room(channels), *others = of_mixed + WIDE * channels;
    const float *in = job->in + place, *gradient = job->gradient + place, *kept = job->kept + place;
    float *out = job->out + place;
    for (long i = 0; i < count * channels; i += channels) {
        const vec share = share_of(job, in + i);
        vec sum = {0};
        for (long j = i; j < i + channels; j += LANES) {
            const vec factor = load_any(kept + j);
            const vec change = (vec)((mask)(load_any(gradient + j) * load_any(in + j)) & (factor > 0));
            store_any(of_mixed + j, change * share);
            sum += change * (factor - 1);
        }
        const vec taken = total(sum) * job->part * share;
        for (long j = i; j < i + channels; j += LANES)
            store_any(out + j, load_any(gradient + j) * load_any(kept + j) - taken);
    }
    const float *mixed = mixtures(job, of_mixed, room, count);
    for (long j = 0; j < count * channels; j += LANES) {
        const vec whole = load_any(out + j) + load_any(mixed + j);
        const mask goes_on = job->rectified ? (mask)(load_any(in + j) > 0) : ~(mask){0};
        store_any(out + j, (vec)((mask)whole & goes_on));
    }
    if (!job->opposed) {
        add_all(of_mixed, in, sums, channels, channels, count);
        return;
    }
    split(in, others, channels, count);
    add_all(room, others, sums, channels, half, count);
    add_all(room + half, others + half, sums + half * half, channels, half, count);
}

static int backward_item(const void *argument, long item) {
    const attention *job = argument;
    const long last = strip_start(job->pixels, job->items, item + 1);
    float *room = zeros(attention_room(job->channels) + 2 * WIDE * job->channels);
    if (!room) return -1;
    float *sums = job->sums + item * sums_of(job->channels, job->opposed);
    for (long pixel = strip_start(job->pixels, job->items, item); pixel < last;) {
        const long count = last - pixel < WIDE ? 1 : WIDE;
        if (count == WIDE) differentiate(job, pixel, room, sums, WIDE);
        else differentiate(job, pixel, room, sums, 1);
        pixel += count;
    }
    free(room);
    return 0;
}

int may_attend(long channels, int opposed) { return channels % (opposed ? 2 * LANES : LANES) == 0; }

static long items_of(long pixels, int threads) { return threads == 1 || pixels < 64 ? 1 : 4L * threads; }

/* out = in * factor, factor = max(0, 1 + u), u = mixed / (mean of in's channels + least), mixed = in by weights.
 * in and out: (pixels, channels); weights: (channels in, channels out); factors: like out, where they are kept, or NULL.
 * opposed: weights keep opposites, and are given for sums and for differences of opposites, half of each.
 * Returns 0, -1 where memory ran out, or -2 where channels do not fill vectors. */
int polyres_attention(
    const float *in, const float *weights, float *out, float *factors, long pixels, long channels, float least,
    int opposed, int threads
) {
    if (!may_attend(channels, opposed)) return -2;
    const attention job = {
        .in = in, .weights = weights, .out = out, .factors = factors, .pixels = pixels, .channels = channels,
        .least = least, .part = 1 / (float)channels, .opposed = opposed, .items = items_of(pixels, threads)
    };
    return share_out(forward_item, &job, job.items, threads);
}

/* The gradients of in, of_in, and of the weights, of_weights (channels out, channels in), given that of out; those of
 * opposed weights come as sums of products of sums, then of differences. weights as above, of the transposed matrix.
 * rectified: of_in is zero where in is. Result as above; the same at every call with as many threads. */
int polyres_attention_gradient(
    const float *gradient, const float *in, const float *factors, const float *weights, float *of_in, float *of_weights,
    long pixels, long channels, float least, int opposed, int rectified, int threads
) {
    if (!may_attend(channels, opposed)) return -2;
    const long items = items_of(pixels, threads), size = sums_of(channels, opposed);
    float *sums = zeros(items * size);
    if (!sums) return -1;
    const attention job = {
        .in = in, .weights = weights, .kept = factors, .gradient = gradient, .out = of_in, .sums = sums,
        .pixels = pixels, .channels = channels, .items = items, .least = least,
        .part = 1 / (float)channels, .opposed = opposed,
        .rectified = rectified
    };
    const int status = share_out(backward_item, &job, items, threads);
    for (long i = 0; i < size; i++) {
        of_weights[i] = 0;
        for (long item = 0; item < items; item++) of_weights[i] += sums[item * size + i];
    }
    free(sums);
    return status;
}
