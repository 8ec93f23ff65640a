/* Dense 3x3 convolutions by minimal filtering, F(4x4, 3x3): Winograd's method as Lavin and Gray (arXiv 1509.09308)
 * wrote it down. 4x4 pixels of the output take 36 multiplications of a channel where the definition takes 144.
 *
 * Features lie as torch has them in channels_last, (image, row, column, channel), unpadded and of any alignment.
 *
 * Kernels that treat a picture's negative alike have channels in groups of 16, the second half of a group being the
 * opposites of the first; exchanging the halves of all groups of the input exchanges those of the output. Then the sums
 * of opposites in the output depend on the sums of the input alone, and the differences on the differences: of each
 * product half need not be made. Where such kernels are told of (`opposed`), features at the points are the sums of all
 * groups followed by the differences of all.
 *
 * Where the processor multiplies pairs of bfloat16 and adds both products to a float, products can be made of such pairs
 * (`narrow`): what is at the points is rounded then, all else is as ever. A pair is of two channels, or of two tiles for
 * the gradient of a weight, and takes the place of a float. */
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "attention.h"

enum {
    TILE = 4,
    REACH = TILE + 2, /* pixels of the input that a tile looks at, per axis */
    POINTS = REACH * REACH,
    VECTORS = 2,             /* vectors of a product's row that are computed together */
    BLOCK = VECTORS * LANES, /* output channels of a product */
    FEW = 2,                 /* rows of a product at a time where WIDE are no longer left: LANES % WIDE is a multiple */
    ROOM = 1 << 19           /* bytes that a batch of tiles fills at the points: a part of the second cache */
};

typedef int maybe_int __attribute__((may_alias));

/* A vector of `lanes` channels, zero beyond them. */
INLINE vec load_some(const float *from, long lanes) {
    if (lanes >= LANES) return load_any(from);
    vec value = {0};
    memcpy(&value, from, lanes * sizeof(float));
    return value;
}

INLINE void store_some(float *to, vec value, long lanes) {
    if (lanes >= LANES) *(loose *)to = value;
    else memcpy(to, &value, lanes * sizeof(float));
}

/* Two numbers rounded to bfloat16 in each lane, the first in its lower half, and sums of their products. */
#if defined(__AVX512BF16__)
enum { HAS_PAIRS = 1 };
INLINE __m512i narrowed(vec value) { return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)value)); }
INLINE vec paired(vec first, vec second) {
    return (vec)_mm512_or_si512(narrowed(first), _mm512_slli_epi32(narrowed(second), 16));
}
INLINE vec with_second(vec pair, vec second) {
    return (vec)_mm512_or_si512((__m512i)pair, _mm512_slli_epi32(narrowed(second), 16));
}
INLINE void store_pairs(float *to, vec value) {
    _mm256_store_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh((__m512)value));
}
INLINE vec repeated(const float *pair) { return (vec)_mm512_set1_epi32(*(const maybe_int *)pair); }
INLINE vec plus_products(vec sum, vec pairs, vec others) {
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)pairs, (__m512bh)others);
}
#else
enum { HAS_PAIRS = 0 };
INLINE vec paired(vec first, vec second) { return first; }
INLINE vec with_second(vec pair, vec second) { return pair; }
INLINE void store_pairs(float *to, vec value) {}
INLINE vec repeated(const float *pair) { return (vec){0}; }
INLINE vec plus_products(vec sum, vec pairs, vec others) { return sum; }
#endif

INLINE long rounded(long number, long to) { return (number + to - 1) / to * to; }

/* The points are 0, +-sqrt(1/2), +-sqrt(2) and infinity: their transforms' factors are smaller than those of whole
 * numbers, and so are the errors, by a factor of about three. */
#define NEAR 0.70710678f
#define FAR 1.41421356f

/* One axis of each transform. */

INLINE void to_points(const vec *in, vec *out) {
    const vec even = in[4] - 2 * in[2], odd = NEAR * (in[3] - 2 * in[1]);
    const vec wide = in[4] - 0.5f * in[2], apart = FAR * (in[3] - 0.5f * in[1]);
    out[0] = in[0] - 2.5f * in[2] + in[4];
    out[1] = even + odd, out[2] = even - odd;
    out[3] = wide + apart, out[4] = wide - apart;
    out[5] = in[1] - 2.5f * in[3] + in[5];
}

INLINE void from_points(const vec *in, vec *out) {
    const vec near = in[1] + in[2], near_apart = NEAR * (in[1] - in[2]);
    const vec far = in[3] + in[4], far_apart = FAR * (in[3] - in[4]);
    out[0] = in[0] + near + far;
    out[1] = near_apart + far_apart;
    out[2] = 0.5f * near + 2 * far;
    out[3] = 0.5f * near_apart + 2 * far_apart + in[5];
}

/* The transpose of from_points: what a gradient of the output is at the points. */
INLINE void gradient_to_points(const vec *in, vec *out) {
    const vec even = in[0] + 0.5f * in[2], odd = NEAR * (in[1] + 0.5f * in[3]);
    const vec wide = in[0] + 2 * in[2], apart = FAR * (in[1] + 2 * in[3]);
    out[0] = in[0];
    out[1] = even + odd, out[2] = even - odd;
    out[3] = wide + apart, out[4] = wide - apart;
    out[5] = in[3];
}

typedef struct {
    const float *in; /* (images, height, width, channels) */
    long images, height, width, channels, padding;
    long out_height, out_width, down, across; /* of the output: pixels, tiles */
    int opposed;
} picture;

static picture picture_of(
    const float *in, long images, long height, long width, long channels, long padding, int opposed
) {
    const long rows = height + 2 * padding - 2, columns = width + 2 * padding - 2;
    const long down = (rows + TILE - 1) / TILE, across = (columns + TILE - 1) / TILE;
    return (picture){in, images, height, width, channels, padding, rows, columns, down, across, opposed};
}

INLINE long tiles_of(const picture *what) { return what->images * what->down * what->across; }

typedef struct {
    long image, row, column; /* of the tile's first pixel of the output */
} place;

INLINE place place_of(const picture *what, long tile) {
    const long across = tile % what->across, rest = tile / what->across;
    return (place){rest / what->down, rest % what->down * TILE, across * TILE};
}

/* Where each pixel of `side` x `side` from (row, column) on lies in `of`, or `nothing` beyond its edges. */
INLINE void pixels_at(
    const float **to, const float *of, const float *nothing, long row, long column, long height, long width,
    long channels, const int side
) {
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++) {
            const long down = row + y, right = column + x;
            const int inside = down >= 0 && down < height && right >= 0 && right < width;
            to[y * side + x] = inside ? of + (down * width + right) * channels : nothing;
        }
}

/* What is at the points: floats, pairs of bfloat16 of neighbouring channels, or of one channel of two tiles. */
enum { FLOATS, CHANNELS, FIRST_TILE, SECOND_TILE };

/* One tile at the points, a vector of channels at a time or two that hold opposites: to[point * apart + channel], or of
 * pairs of channels to[point * apart + channel / 2].
 * pixels: `side` x `side`, those that a tile looks at (REACH) or those of a gradient of the output (TILE). */
INLINE void to_points_as(
    const float *const *pixels, long channels, float *to, long apart, const int side, const int opposed, const int form
) {
    const long half = channels / 2;
    for (long channel = 0; channel < channels; channel += opposed ? 2 * LANES : LANES) {
        vec values[2][POINTS];
        UNROLLED for (int x = 0; x < side; x++) {
            vec columns[2][REACH], made[REACH];
            UNROLLED for (int y = 0; y < side; y++) {
                const float *from = pixels[y * side + x] + channel;
                if (opposed) {
                    const vec some = load_opposed(from), others = load_opposed(from + 8);
                    columns[0][y] = some + others, columns[1][y] = some - others;
                } else columns[0][y] = load_some(from, channels - channel);
            }
            UNROLLED for (int part = 0; part <= opposed; part++) {
                if (side == REACH) to_points(columns[part], made);
                else gradient_to_points(columns[part], made);
                UNROLLED for (int y = 0; y < REACH; y++) values[part][y * side + x] = made[y];
            }
        }
        UNROLLED for (int part = 0; part <= opposed; part++) {
            const long place = opposed ? part * half + channel / 2 : channel;
            float *first = to + (form == CHANNELS ? place / 2 : place);
            UNROLLED for (int y = 0; y < REACH; y++) {
                vec made[REACH];
                if (side == REACH) to_points(values[part] + y * side, made);
                else gradient_to_points(values[part] + y * side, made);
                UNROLLED for (int x = 0; x < REACH; x++) {
                    float *at = first + (y * REACH + x) * apart;
                    if (form == FLOATS) store(at, made[x]);
                    else if (form == CHANNELS) store_pairs(at, made[x]);
                    else if (form == FIRST_TILE) store(at, paired(made[x], (vec){0}));
                    else store(at, with_second(load(at), made[x]));
                }
            }
        }
    }
}

INLINE void to_points_of(
    const float *const *pixels, long channels, float *to, long apart, const int side, int opposed, const int form
) {
    if (opposed) to_points_as(pixels, channels, to, apart, side, 1, form);
    else to_points_as(pixels, channels, to, apart, side, 0, form);
}

INLINE void to_points_in(
    const float *const *pixels, long channels, float *to, long apart, const int side, int opposed, int form
) {
    if (!HAS_PAIRS || form == FLOATS) to_points_of(pixels, channels, to, apart, side, opposed, FLOATS);
    else if (form == FIRST_TILE) to_points_of(pixels, channels, to, apart, side, opposed, FIRST_TILE);
    else if (form == SECOND_TILE) to_points_of(pixels, channels, to, apart, side, opposed, SECOND_TILE);
    else if (side == REACH) to_points_of(pixels, channels, to, apart, side, opposed, CHANNELS);
}

/* A tile of the input. */
static void tile_to_points(
    const picture *what, long tile, const float *nothing, float *to, long apart, int form
) {
    const place at = place_of(what, tile);
    const float *pixels[POINTS];
    pixels_at(
        pixels, what->in + at.image * what->height * what->width * what->channels, nothing, at.row - what->padding,
        at.column - what->padding, what->height, what->width, what->channels, REACH
    );
    to_points_in(pixels, what->channels, to, apart, REACH, what->opposed, form);
}

/* A tile of a gradient of the output, (images, out_height, out_width, kernels), of any number of kernels. */
static void gradient_tile_to_points(
    const picture *what, const float *gradient, long kernels, long tile, const float *nothing, float *to, long apart,
    int form
) {
    const place at = place_of(what, tile);
    const float *pixels[TILE * TILE];
    pixels_at(
        pixels, gradient + at.image * what->out_height * what->out_width * kernels, nothing, at.row, at.column,
        what->out_height, what->out_width, kernels, TILE
    );
    to_points_in(pixels, kernels, to, apart, TILE, what->opposed, form);
}

/* sum + product, of floats or of pairs. */
INLINE vec plus_product(vec sum, vec values, vec others, const int narrow) {
    if (narrow) return plus_products(sum, values, others);
    return sum + values * others;
}

INLINE vec broadcast(const float *from, const int narrow) {
    if (narrow) return repeated(from);
    return *from - (vec){0};
}

/* `count` rows of a product: out[row][block] = sum over channels of in[row][channel] * weights[channel][block], or over
 * pairs of channels. */
INLINE void rows_of_product(
    const float *in, long in_apart, long channels, const float *weights, float *out, long out_apart, const int count,
    const int narrow
) {
    vec sums[WIDE][VECTORS];
    UNROLLED for (int i = 0; i < count; i++)
        UNROLLED for (int j = 0; j < VECTORS; j++) sums[i][j] = (vec){0};
    for (long channel = 0; channel < channels; channel++, weights += BLOCK) {
        vec kernel[VECTORS];
        UNROLLED for (int j = 0; j < VECTORS; j++) kernel[j] = load(weights + j * LANES);
        UNROLLED for (int i = 0; i < count; i++) {
            vec value = broadcast(in + i * in_apart + channel, narrow);
            HELD(value);
            UNROLLED for (int j = 0; j < VECTORS; j++) sums[i][j] = plus_product(sums[i][j], kernel[j], value, narrow);
        }
    }
    UNROLLED for (int i = 0; i < count; i++)
        UNROLLED for (int j = 0; j < VECTORS; j++) store(out + i * out_apart + j * LANES, sums[i][j]);
}

/* How many tiles are transformed at a time, given the floats that each takes: full products, and no more than fit. */
static long batch_of(long floats, long tiles) {
    const long fitting = ROOM / (long)sizeof(float) / POINTS / floats / WIDE * WIDE;
    const long batch = fitting < WIDE ? WIDE : fitting > 8 * WIDE ? 8 * WIDE : fitting;
    return batch > rounded(tiles, WIDE) ? rounded(tiles, WIDE) : batch;
}

INLINE void kernel_axis_to_points(const vec *in, vec *out) {
    const vec near = -2.f / 3 * in[0] - 1.f / 3 * in[2], near_apart = FAR / 3 * in[1];
    const vec far = 1.f / 6 * in[0] + 1.f / 3 * in[2], far_apart = FAR / 6 * in[1];
    out[0] = in[0];
    out[1] = near - near_apart, out[2] = near + near_apart;
    out[3] = far + far_apart, out[4] = far - far_apart;
    out[5] = in[2];
}

/* Its transpose. */
INLINE void kernel_axis_from_points(const vec *in, vec *out) {
    const vec near = in[1] + in[2], near_apart = in[2] - in[1], far = in[3] + in[4], far_apart = in[3] - in[4];
    out[0] = in[0] - 2.f / 3 * near + 1.f / 6 * far;
    out[1] = FAR / 3 * near_apart + FAR / 6 * far_apart;
    out[2] = 1.f / 3 * (far - near) + in[5];
}

/* Kernels at the points, (POINTS, blocks, rows, BLOCK), from (kernels, channels, 3, 3) of no more channels than rows. */
static void kernels_to_points(const float *weight, float *to, long kernels, long channels, long rows) {
    const long apart = rounded(kernels, BLOCK) * rows;
    for (long kernel = 0; kernel < kernels; kernel += LANES)
        for (long channel = 0; channel < channels; channel++) {
            vec taps[9] = {0}, values[REACH * 3];
            const int lanes = kernels - kernel < LANES ? (int)(kernels - kernel) : LANES;
            for (int lane = 0; lane < lanes; lane++)
                UNROLLED for (int i = 0; i < 9; i++)
                    taps[i][lane] = weight[((kernel + lane) * channels + channel) * 9 + i];
            UNROLLED for (int x = 0; x < 3; x++) {
                const vec column[3] = {taps[x], taps[3 + x], taps[6 + x]};
                vec made[REACH];
                kernel_axis_to_points(column, made);
                UNROLLED for (int y = 0; y < REACH; y++) values[y * 3 + x] = made[y];
            }
            float *at = to + (kernel / BLOCK * rows + channel) * BLOCK + kernel % BLOCK;
            UNROLLED for (int y = 0; y < REACH; y++) {
                vec made[REACH];
                kernel_axis_to_points(values + y * 3, made);
                UNROLLED for (int x = 0; x < REACH; x++) store(at + (y * REACH + x) * apart, made[x]);
            }
        }
}

/* `rows` of BLOCK floats, those of two channels following each other, as pairs of such rows. */
static void in_pairs(const float *from, float *to, long rows) {
    for (long row = 0; row + 1 < rows; row += 2, from += 2 * BLOCK, to += BLOCK)
        for (long lane = 0; lane < BLOCK; lane += LANES)
            store(to + lane, paired(load(from + lane), load(from + BLOCK + lane)));
}

/* The way back, of gradients, from channels rounded to vectors. */
static void kernels_from_points(const float *from, float *weight, long kernels, long channels) {
    const long rows = rounded(channels, LANES), apart = rounded(kernels, BLOCK) * rows;
    for (long kernel = 0; kernel < kernels; kernel += LANES)
        for (long channel = 0; channel < channels; channel++) {
            const float *at = from + (kernel / BLOCK * rows + channel) * BLOCK + kernel % BLOCK;
            vec values[3 * REACH];
            UNROLLED for (int x = 0; x < REACH; x++) {
                vec column[REACH], made[3];
                UNROLLED for (int y = 0; y < REACH; y++) column[y] = load(at + (y * REACH + x) * apart);
                kernel_axis_from_points(column, made);
                UNROLLED for (int y = 0; y < 3; y++) values[y * REACH + x] = made[y];
            }
            const int lanes = kernels - kernel < LANES ? (int)(kernels - kernel) : LANES;
            UNROLLED for (int y = 0; y < 3; y++) {
                vec made[3];
                kernel_axis_from_points(values + y * REACH, made);
                for (int lane = 0; lane < lanes; lane++)
                    UNROLLED for (int x = 0; x < 3; x++)
                        weight[((kernel + lane) * channels + channel) * 9 + y * 3 + x] = made[x][lane];
            }
        }
}

/* What (kernels, channels, 3, 3) make of the sums of opposites, followed by what they make of differences: half as many
 * channels of `to` as there were. */
static void halved(const float *weight, float *to, long kernels, long channels) {
    for (long kernel = 0; kernel < kernels / 2; kernel++)
        for (long channel = 0; channel < channels / 2; channel++) {
            const long row = kernel / 8 * 16 + kernel % 8, column = channel / 8 * 16 + channel % 8;
            const float *same = weight + (row * channels + column) * 9, *other = same + 8 * 9;
            const float *other_back = same + 8 * channels * 9, *same_back = other_back + 8 * 9;
            float *sum = to + (kernel * (channels / 2) + channel) * 9, *difference = sum + kernels / 2 * (channels / 2) * 9;
            for (int i = 0; i < 9; i++) {
                const float alike = 0.25f * (same[i] + same_back[i]), unlike = 0.25f * (other[i] + other_back[i]);
                sum[i] = alike + unlike, difference[i] = alike - unlike;
            }
        }
}

/* The way back, of gradients: the mean over the exchange of opposites. */
static void unhalved(const float *halves, float *to, long kernels, long channels) {
    for (long kernel = 0; kernel < kernels / 2; kernel++)
        for (long channel = 0; channel < channels / 2; channel++) {
            const long row = kernel / 8 * 16 + kernel % 8, column = channel / 8 * 16 + channel % 8;
            float *same = to + (row * channels + column) * 9, *other = same + 8 * 9;
            float *other_back = same + 8 * channels * 9, *same_back = other_back + 8 * 9;
            const float *sum = halves + (kernel * (channels / 2) + channel) * 9;
            const float *difference = sum + kernels / 2 * (channels / 2) * 9;
            for (int i = 0; i < 9; i++) {
                same[i] = same_back[i] = 0.25f * (sum[i] + difference[i]);
                other[i] = other_back[i] = 0.25f * (sum[i] - difference[i]);
            }
        }
}

/* Whether channels can be computed as sums and differences: whole vectors of either. */
INLINE int may_be_opposed(long kernels, long channels) {
    return LANES >= 8 && kernels % (2 * BLOCK) == 0 && channels % (2 * LANES) == 0;
}

/* Channels that one of the output depends on, an even number; zeros make it one. */
INLINE long depth_of(const picture *what) { return what->opposed ? what->channels / 2 : rounded(what->channels, 2); }

typedef struct {
    picture what;
    float *memory;                         /* of the next three */
    const float *weights, *bias, *nothing; /* bias: (rounded kernels) */
    const float *mask, *add;               /* as out, or NULL */
    float *out;
    long kernels, batch, items;
    float slope;
    int narrow;
} forward;

/* A vector of channels of one tile of the output, from the products at the points. */
INLINE void tile_from_points(const float *from, long apart, vec *made) {
    vec values[TILE * REACH];
    UNROLLED for (int x = 0; x < REACH; x++) {
        vec column[REACH], rows[TILE];
        UNROLLED for (int y = 0; y < REACH; y++) column[y] = load(from + (y * REACH + x) * apart);
        from_points(column, rows);
        UNROLLED for (int y = 0; y < TILE; y++) values[y * REACH + x] = rows[y];
    }
    UNROLLED for (int y = 0; y < TILE; y++) from_points(values + y * REACH, made + y * TILE);
}

/* PReLU, of which ReLU and none take less: their slopes are known when this is compiled. NaN stays NaN. */
INLINE vec activated(vec value, const float slope) {
    if (slope == 1) return value;
    if (slope == 0) return (vec)(~(mask)(value < 0) & (mask)value);
    return rectified(value, (vec){0} + slope);
}

/* `value` where `mask` is positive, zero elsewhere. */
INLINE vec masked(vec value, vec mask_of_it) { return (vec)((mask_of_it > 0) & (mask)value); }

/* One tile of the output; of opposed channels, some and their opposites at a time. */
INLINE void finish_tile_as(
    const forward *job, long tile, const float *from, long apart, const float slope, const int opposed
) {
    const picture *what = &job->what;
    const place at = place_of(what, tile);
    const long first = ((at.image * what->out_height + at.row) * what->out_width + at.column) * job->kernels;
    const long rows = what->out_height - at.row, columns = what->out_width - at.column;
    for (long kernel = 0; kernel < job->kernels; kernel += opposed ? 2 * LANES : LANES) {
        const long lanes = job->kernels - kernel;
        vec made[2][TILE * TILE], bias[2];
        tile_from_points(from + (opposed ? kernel / 2 : kernel), apart, made[0]);
        if (opposed) {
            tile_from_points(from + (job->kernels + kernel) / 2, apart, made[1]);
            bias[0] = load_opposed(job->bias + kernel), bias[1] = load_opposed(job->bias + kernel + 8);
        } else bias[0] = load(job->bias + kernel);
        UNROLLED for (int y = 0; y < TILE; y++) {
            if (y >= rows) break;
            UNROLLED for (int x = 0; x < TILE; x++) {
                if (x >= columns) break;
                const long pixel = first + (y * what->out_width + x) * job->kernels + kernel;
                const vec value = made[0][y * TILE + x];
                if (opposed) {
                    const vec difference = made[1][y * TILE + x];
                    vec some = activated(value + difference + bias[0], slope);
                    vec others = activated(value - difference + bias[1], slope);
                    if (job->mask) {
                        some = masked(some, load_opposed(job->mask + pixel));
                        others = masked(others, load_opposed(job->mask + pixel + 8));
                    }
                    if (job->add) some += load_opposed(job->add + pixel), others += load_opposed(job->add + pixel + 8);
                    store_opposed(job->out + pixel, some), store_opposed(job->out + pixel + 8, others);
                } else {
                    vec whole = activated(value + bias[0], slope);
                    if (job->mask) whole = masked(whole, load_some(job->mask + pixel, lanes));
                    if (job->add) whole += load_some(job->add + pixel, lanes);
                    store_some(job->out + pixel, whole, lanes);
                }
            }
        }
    }
}

static void finish_tile(const forward *job, long tile, const float *from, long apart) {
    if (!job->what.opposed) finish_tile_as(job, tile, from, apart, job->slope, 0);
    else if (job->slope == 0) finish_tile_as(job, tile, from, apart, 0, 1);
    else if (job->slope == 1) finish_tile_as(job, tile, from, apart, 1, 1);
    else finish_tile_as(job, tile, from, apart, job->slope, 1);
}

/* Floats between the points of a batch, of the input and of the products. One vector more than they take, so that the
 * points of a tile do not all fall into the same few lines of the cache. */
INLINE long in_apart_of(const forward *job) {
    return job->batch * rounded(job->what.channels, LANES) / (job->narrow ? 2 : 1) + LANES;
}
INLINE long out_apart_of(const forward *job) { return job->batch * rounded(job->kernels, BLOCK) + LANES; }

INLINE long desk_of(const forward *job) { return POINTS * (in_apart_of(job) + out_apart_of(job)); }

/* One batch of tiles, at a desk for their points. */
static void forward_batch(const forward *job, long part, float *desk) {
    const picture *what = &job->what;
    const long share = job->narrow ? 2 : 1; /* channels in the place of a float */
    const long width = rounded(what->channels, LANES) / share, blocks = rounded(job->kernels, BLOCK) / BLOCK;
    const long depth = depth_of(what) / share, form = job->narrow ? CHANNELS : FLOATS;
    const long in_apart = in_apart_of(job), out_apart = out_apart_of(job);
    float *in = desk, *out = desk + POINTS * in_apart;
    const long first = part * job->batch, left = tiles_of(what) - first, count = left < job->batch ? left : job->batch;
    for (long i = 0; i < count; i++) tile_to_points(what, first + i, job->nothing, in + i * width, in_apart, form);
    for (long point = 0; point < POINTS; point++)
        for (long block = 0; block < blocks; block++) {
            const float *weights = job->weights + (point * blocks + block) * depth * BLOCK;
            const float *from = in + point * in_apart + (what->opposed && 2 * block >= blocks ? depth : 0);
            float *to = out + point * out_apart + block * BLOCK;
            for (long i = 0; i < count; i += WIDE, from += WIDE * width, to += WIDE * blocks * BLOCK)
                if (HAS_PAIRS && job->narrow)
                    rows_of_product(from, width, depth, weights, to, blocks * BLOCK, WIDE, 1);
                else rows_of_product(from, width, depth, weights, to, blocks * BLOCK, WIDE, 0);
        }
    for (long i = 0; i < count; i++) finish_tile(job, first + i, out + i * blocks * BLOCK, out_apart);
}

INLINE long batches_of(const forward *job) { return (tiles_of(&job->what) + job->batch - 1) / job->batch; }

static int forward_item(const void *argument, long item) {
    const forward *job = argument;
    float *desk = zeros(desk_of(job));
    if (!desk) return -1;
    const long all = batches_of(job);
    for (long part = strip_start(all, job->items, item); part < strip_start(all, job->items, item + 1); part++)
        forward_batch(job, part, desk);
    free(desk);
    return 0;
}

/* Make a job's weights, of which `what`, `slope` and `narrow` are known; 0, -1 or -2 as below. free() its memory. */
static int begin_forward(forward *job, const float *weight, const float *bias, long kernels) {
    const picture *what = &job->what;
    const int opposed = what->opposed;
    if (what->out_height < 1 || what->out_width < 1) return -2;
    if ((opposed && !may_be_opposed(kernels, what->channels)) || (job->narrow && !HAS_PAIRS)) return -2;
    const long wide = rounded(kernels, BLOCK), depth = depth_of(what), size = POINTS * wide * depth;
    float *memory = zeros(size + wide + what->channels + kernels + (opposed ? kernels * depth * 9 : 0));
    if (!memory) return -1;
    job->memory = memory, job->kernels = kernels;
    job->weights = memory, job->bias = memory + size, job->nothing = memory + size + wide;
    if (opposed) {
        float *halves = memory + size + wide + what->channels + kernels;
        halved(weight, halves, kernels, what->channels);
        weight = halves;
    }
    kernels_to_points(weight, memory, kernels, opposed ? depth : what->channels, depth);
    if (job->narrow) in_pairs(memory, memory, POINTS * wide / BLOCK * depth);
    if (bias) memcpy(memory + size, bias, kernels * sizeof(float));
    job->batch = batch_of(rounded(what->channels, LANES) + wide, tiles_of(what));
    return 0;
}

/* out = leaky(convolution + bias) [where mask > 0, else 0] [+ add].
 * in: (images, height, width, channels); weight: (kernels, channels, 3, 3); bias: (kernels) or NULL; mask and add:
 * like out, (images, height + 2 padding - 2, width + 2 padding - 2, kernels), or NULL.
 * opposed: whether the weight keeps opposites, to rounding, and is to be used so; it must have whole vectors of them.
 * narrow: whether products are of bfloat16.
 * Returns 0, -1 where memory ran out, or -2 where the picture is smaller than a kernel or opposites or products of
 * bfloat16 are not possible. */
int polyres_winograd(
    const float *in, const float *weight, const float *bias, const float *mask, const float *add, float *out,
    long images, long height, long width, long channels, long kernels, long padding, float slope, int opposed,
    int narrow, int threads
) {
    forward job = {
        .what = picture_of(in, images, height, width, channels, padding, opposed),
        .mask = mask, .add = add, .out = out, .slope = slope, .narrow = narrow
    };
    int status = begin_forward(&job, weight, bias, kernels);
    if (status) return status;
    const long all = batches_of(&job);
    job.items = threads == 1 ? 1 : all < 4L * threads ? all : 4L * threads;
    status = share_out(forward_item, &job, job.items, threads);
    free(job.memory);
    return status;
}

/* Two convolutions of which the second follows close behind the first, so that what it looks at is in the cache still.
 * Threads take batches of either from one queue, in which each comes after those that it looks at. */
typedef struct {
    forward first, second; /* with as many batches */
    long lead;             /* batches that the first is ahead of the second */
    atomic_long *next;     /* in the queue */
    atomic_char *made;     /* which batches of the first there are */
    const attention *attending; /* to what the first makes, in its place; or NULL */
} chain;

/* Weigh the pixels of one batch of tiles, row by row of each run of tiles that lie side by side. */
static void attend_batch(const chain *job, long part, float *room) {
    const forward *made = &job->first;
    const picture *what = &made->what;
    const long all = tiles_of(what), end = (part + 1) * made->batch, last = end < all ? end : all;
    for (long tile = part * made->batch; tile < last;) {
        const long column = tile % what->across, line = tile / what->across, row = line % what->down * TILE;
        const long ahead = what->across - column, count = ahead < last - tile ? ahead : last - tile;
        const long first = column * TILE, right = (column + count) * TILE;
        const long beyond = right < what->out_width ? right : what->out_width;
        for (long i = row; i < row + TILE && i < what->out_height; i++) {
            const long start = (line / what->down * what->out_height + i) * what->out_width;
            attend(job->attending, start + first, start + beyond, room);
        }
        tile += count;
    }
}

/* Wait for the batches of the first up to `last`, of which those before `known` are there. */
static long await_batches(const chain *job, long known, long last) {
    for (; known <= last; known++)
        while (!atomic_load_explicit(&job->made[known], memory_order_acquire)) sched_yield();
    return known;
}

static int chain_item(const void *argument, long item) {
    const chain *job = argument;
    const long one = desk_of(&job->first), other = desk_of(&job->second);
    const long size = one > other ? one : other, extra = job->attending ? attention_room(job->first.kernels) : 0;
    float *desk = zeros(size + extra);
    if (!desk) return -1; /* before a batch is taken: others may wait for it */
    const long all = batches_of(&job->first), in_turns = 2 * (all - job->lead);
    const long reach = job->first.what.across + 1; /* the last tile that one looks at is so many further on */
    long known = 0;
    for (long place; (place = atomic_fetch_add(job->next, 1)) < 2 * all;) {
        /* First the lead, then one of the second and one of the first in turns, then the rest of the second. */
        const long turn = place - job->lead;
        if (turn < 0 || (turn < in_turns && turn % 2)) {
            const long part = turn < 0 ? place : job->lead + turn / 2;
            forward_batch(&job->first, part, desk);
            if (job->attending) attend_batch(job, part, desk + size);
            atomic_store_explicit(&job->made[part], 1, memory_order_release);
        } else {
            const long part = turn < in_turns ? turn / 2 : turn - in_turns / 2;
            const long last = ((part + 1) * job->second.batch - 1 + reach) / job->first.batch;
            known = await_batches(job, known, last < all ? last : all - 1);
            forward_batch(&job->second, part, desk);
        }
    }
    free(desk);
    return 0;
}

/* inner = relu(convolution of in + bias1), or that convolution where mask > 0 and else 0 if there is a mask;
 * out = in + convolution of inner + bias2. To the bit what two calls of the function above give, and one of
 * polyres_attention between them if there are weights for it: inner is weighted then.
 * in and out: (images, height, width, channels); inner and mask: (images, height, width, kernels); weight1: (kernels,
 * channels, 3, 3); weight2: (channels, kernels, 3, 3). The rest and the result as above. */
int polyres_winograd_residual(
    const float *in, const float *weight1, const float *bias1, const float *weight2, const float *bias2,
    const float *mask, const float *attending, float *inner, float *out, long images, long height, long width,
    long channels, long kernels, float least, int opposed1, int opposed2, int opposed_attention, int narrow, int threads
) {
    const attention weighing = {
        .in = inner, .out = inner, .weights = attending, .channels = kernels, .least = least,
        .part = 1 / (float)kernels, .opposed = opposed_attention
    };
    if (attending && !may_attend(kernels, opposed_attention)) return -2;
    forward first = {
        .what = picture_of(in, images, height, width, channels, 1, opposed1),
        .mask = mask, .out = inner, .slope = mask ? 1 : 0, .narrow = narrow
    };
    forward second = {
        .what = picture_of(inner, images, height, width, kernels, 1, opposed2),
        .add = in, .out = out, .slope = 1, .narrow = narrow
    };
    int status = begin_forward(&first, weight1, bias1, kernels);
    if (!status) status = begin_forward(&second, weight2, bias2, channels);
    if (!status) {
        first.batch = second.batch = first.batch < second.batch ? first.batch : second.batch;
        /* The second's first batch looks at so many of the first; with more, threads seldom have to wait. */
        const long all = batches_of(&first), seen = 2 + first.what.across / first.batch, lead = seen + threads;
        atomic_long next = 0;
        atomic_char *made = calloc(all, sizeof *made);
        const chain job = {first, second, lead < all ? lead : all, &next, made, attending ? &weighing : NULL};
        status = made ? share_out(chain_item, &job, threads < all ? threads : all, threads) : -1;
        free(made);
    }
    free(first.memory), free(second.memory);
    return status;
}

typedef struct {
    picture what;
    const float *gradient, *nothing;
    float *sums; /* one (POINTS, blocks, channels, BLOCK) for each part */
    long kernels, batch, parts;
    int narrow;
} backward;

/* `count` channels from `in` on: to[channel][block] += sum over tiles of in[tile][channel] * gradient[tile][block], or
 * over pairs of tiles. */
INLINE void add_products(
    const float *in, long in_apart, const float *gradient, long gradient_apart, float *to, long tiles, const int count,
    const int narrow
) {
    vec sums[WIDE][VECTORS];
    UNROLLED for (int i = 0; i < count; i++)
        UNROLLED for (int j = 0; j < VECTORS; j++) sums[i][j] = load(to + i * BLOCK + j * LANES);
    for (long tile = 0; tile < tiles; tile++, in += in_apart, gradient += gradient_apart) {
        vec made[VECTORS];
        UNROLLED for (int j = 0; j < VECTORS; j++) made[j] = load(gradient + j * LANES);
        UNROLLED for (int i = 0; i < count; i++) {
            vec value = broadcast(in + i, narrow);
            HELD(value);
            UNROLLED for (int j = 0; j < VECTORS; j++) sums[i][j] = plus_product(sums[i][j], made[j], value, narrow);
        }
    }
    UNROLLED for (int i = 0; i < count; i++)
        UNROLLED for (int j = 0; j < VECTORS; j++) store(to + i * BLOCK + j * LANES, sums[i][j]);
}

/* All sums of one point and block. */
INLINE void add_all_products(
    const float *in, long in_apart, const float *gradient, long gradient_apart, float *to, long tiles, long depth,
    const int narrow
) {
    long channel = 0;
    for (; channel + WIDE <= depth; channel += WIDE)
        add_products(in + channel, in_apart, gradient, gradient_apart, to + channel * BLOCK, tiles, WIDE, narrow);
    for (; channel < depth; channel += FEW)
        add_products(in + channel, in_apart, gradient, gradient_apart, to + channel * BLOCK, tiles, FEW, narrow);
}

static int backward_item(const void *argument, long item) {
    const backward *job = argument;
    const picture *what = &job->what;
    const long channels = rounded(what->channels, LANES), wide = rounded(job->kernels, BLOCK), batch = job->batch;
    const long share = job->narrow ? 2 : 1; /* tiles in the place of a float */
    const long in_apart = batch / share * channels + LANES, out_apart = batch / share * wide + LANES;
    const long depth = what->opposed ? channels / 2 : channels;
    float *sums = job->sums + item * POINTS * wide * depth;
    float *in = zeros(POINTS * (in_apart + out_apart));
    if (!in) return -1;
    float *out = in + POINTS * in_apart;
    const long all = (tiles_of(what) + batch - 1) / batch;
    for (long part = strip_start(all, job->parts, item); part < strip_start(all, job->parts, item + 1); part++) {
        const long first = part * batch, left = tiles_of(what) - first, count = left < batch ? left : batch;
        for (long i = 0; i < count; i++) {
            const long tile = first + i, place = i / share;
            const int form = !job->narrow ? FLOATS : i % 2 ? SECOND_TILE : FIRST_TILE;
            tile_to_points(what, tile, job->nothing, in + place * channels, in_apart, form);
            gradient_tile_to_points(
                what, job->gradient, job->kernels, tile, job->nothing, out + place * wide, out_apart, form
            );
        }
        const long places = (count + share - 1) / share;
        for (long point = 0; point < POINTS; point++)
            for (long block = 0; block < wide; block += BLOCK) {
                const float *from = in + point * in_apart + (2 * block < wide ? 0 : channels - depth);
                const float *made = out + point * out_apart + block;
                float *to = sums + (point * wide + block) * depth;
                if (HAS_PAIRS && job->narrow) add_all_products(from, channels, made, wide, to, places, depth, 1);
                else add_all_products(from, channels, made, wide, to, places, depth, 0);
            }
    }
    free(in);
    return 0;
}

/* The gradient of the weight, (kernels, channels, 3, 3), given that of the output; sizes and result as above. Of one
 * that keeps opposites it is the mean over their exchange. The same on every run with as many threads. */
int polyres_winograd_weight(
    const float *in, const float *gradient, float *out, long images, long height, long width, long channels,
    long kernels, long padding, int opposed, int narrow, int threads
) {
    backward job = {.what = picture_of(in, images, height, width, channels, padding, opposed), .gradient = gradient};
    if (job.what.out_height < 1 || job.what.out_width < 1) return -2;
    if ((opposed && !may_be_opposed(kernels, channels)) || (narrow && !HAS_PAIRS)) return -2;
    const long wide = rounded(kernels, BLOCK), width_in = rounded(channels, LANES);
    const long depth = opposed ? channels / 2 : width_in, size = POINTS * wide * depth;
    job.batch = batch_of(width_in + wide, tiles_of(&job.what));
    const long all = (tiles_of(&job.what) + job.batch - 1) / job.batch;
    job.parts = all < threads ? all : threads;
    float *memory = zeros(job.parts * size + channels + kernels + (opposed ? kernels * depth * 9 : 0));
    if (!memory) return -1;
    job.sums = memory, job.nothing = memory + job.parts * size, job.kernels = kernels;
    job.narrow = narrow;
    const int status = share_out(backward_item, &job, job.parts, threads);
    for (long part = 1; part < job.parts; part++)
        for (long i = 0; i < size; i++) memory[i] += memory[part * size + i];
    if (opposed) {
        float *halves = memory + job.parts * size + channels + kernels;
        kernels_from_points(memory, halves, kernels, depth);
        unhalved(halves, out, kernels, channels);
    } else kernels_from_points(memory, out, kernels, channels);
    free(memory);
    return status;
}

/* Whether products can be of bfloat16. */
int polyres_has_pairs(void) { return HAS_PAIRS; }
