/* Dense 3x3 convolutions by minimal filtering, F(4x4, 3x3): Winograd's method as Lavin and Gray (arXiv 1509.09308)
 * wrote it down. 4x4 pixels of the output take 36 multiplications of a channel where the definition takes 144.
 *
 * Features lie as torch has them in channels_last, (image, row, column, channel), unpadded and of any alignment. */
#include <stdlib.h>
#include <string.h>

#include "common.h"

enum {
    TILE = 4,
    REACH = TILE + 2, /* pixels of the input that a tile looks at, per axis */
    POINTS = REACH * REACH,
    VECTORS = 2,             /* vectors of a product's row that are computed together */
    BLOCK = VECTORS * LANES, /* output channels of a product */
    NARROW = 2,              /* rows of a product at a time where WIDE are no longer left: LANES % WIDE is a multiple */
    ROOM = 1 << 19           /* bytes that a batch of tiles fills at the points: a part of the second cache */
};

typedef float loose __attribute__((vector_size(4 * LANES), may_alias, aligned(4)));

INLINE vec load_any(const float *from) { return *(const loose *)from; }

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
} picture;

static picture picture_of(const float *in, long images, long height, long width, long channels, long padding) {
    const long rows = height + 2 * padding - 2, columns = width + 2 * padding - 2;
    const long down = (rows + TILE - 1) / TILE, across = (columns + TILE - 1) / TILE;
    return (picture){in, images, height, width, channels, padding, rows, columns, down, across};
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

/* The vectors of one tile at the points, for each chunk of channels: to[point * apart + channel]. */
static void tile_to_points(const picture *what, long tile, const float *nothing, float *to, long apart) {
    const place at = place_of(what, tile);
    const float *pixels[POINTS];
    pixels_at(
        pixels, what->in + at.image * what->height * what->width * what->channels, nothing, at.row - what->padding,
        at.column - what->padding, what->height, what->width, what->channels, REACH
    );
    for (long channel = 0; channel < what->channels; channel += LANES) {
        vec values[POINTS];
        UNROLLED for (int x = 0; x < REACH; x++) {
            vec column[REACH], made[REACH];
            UNROLLED for (int y = 0; y < REACH; y++)
                column[y] = load_some(pixels[y * REACH + x] + channel, what->channels - channel);
            to_points(column, made);
            UNROLLED for (int y = 0; y < REACH; y++) values[y * REACH + x] = made[y];
        }
        UNROLLED for (int y = 0; y < REACH; y++) {
            vec made[REACH];
            to_points(values + y * REACH, made);
            UNROLLED for (int x = 0; x < REACH; x++) store(to + (y * REACH + x) * apart + channel, made[x]);
        }
    }
}

/* The same for a gradient of the output, (images, out_height, out_width, kernels), of any number of kernels. */
static void gradient_tile_to_points(
    const picture *what, const float *gradient, long kernels, long tile, const float *nothing, float *to, long apart
) {
    const place at = place_of(what, tile);
    const float *pixels[TILE * TILE];
    pixels_at(
        pixels, gradient + at.image * what->out_height * what->out_width * kernels, nothing, at.row, at.column,
        what->out_height, what->out_width, kernels, TILE
    );
    for (long kernel = 0; kernel < kernels; kernel += LANES) {
        vec values[REACH * TILE];
        UNROLLED for (int x = 0; x < TILE; x++) {
            vec column[TILE], made[REACH];
            UNROLLED for (int y = 0; y < TILE; y++)
                column[y] = load_some(pixels[y * TILE + x] + kernel, kernels - kernel);
            gradient_to_points(column, made);
            UNROLLED for (int y = 0; y < REACH; y++) values[y * TILE + x] = made[y];
        }
        UNROLLED for (int y = 0; y < REACH; y++) {
            vec made[REACH];
            gradient_to_points(values + y * TILE, made);
            UNROLLED for (int x = 0; x < REACH; x++) store(to + (y * REACH + x) * apart + kernel, made[x]);
        }
    }
}

/* `count` rows of a product: out[row][block] = sum over channels of in[row][channel] * weights[channel][block]. */
INLINE void rows_of_product(
    const float *in, long in_apart, long channels, const float *weights, float *out, long out_apart, const int count
) {
    vec sums[WIDE][VECTORS];
    UNROLLED for (int i = 0; i < count; i++)
        UNROLLED for (int j = 0; j < VECTORS; j++) sums[i][j] = (vec){0};
    for (long channel = 0; channel < channels; channel++, weights += BLOCK) {
        vec kernel[VECTORS];
        UNROLLED for (int j = 0; j < VECTORS; j++) kernel[j] = load(weights + j * LANES);
        UNROLLED for (int i = 0; i < count; i++) {
            vec value = in[i * in_apart + channel] - (vec){0};
            HELD(value);
            UNROLLED for (int j = 0; j < VECTORS; j++) sums[i][j] += kernel[j] * value;
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

/* Kernels at the points, (POINTS, blocks, channels, BLOCK), from (kernels, channels, 3, 3). */
static void kernels_to_points(const float *weight, float *to, long kernels, long channels) {
    const long apart = rounded(kernels, BLOCK) * channels;
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
            float *at = to + (kernel / BLOCK * channels + channel) * BLOCK + kernel % BLOCK;
            UNROLLED for (int y = 0; y < REACH; y++) {
                vec made[REACH];
                kernel_axis_to_points(values + y * 3, made);
                UNROLLED for (int x = 0; x < REACH; x++) store(at + (y * REACH + x) * apart, made[x]);
            }
        }
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

typedef struct {
    picture what;
    const float *weights, *bias, *nothing, *add; /* bias: (rounded kernels); add: as out, or NULL */
    float *out;
    long kernels, batch, batches;
    float slope;
} forward;

/* One tile of the output from the products at the points. */
static void finish_tile(const forward *job, long tile, const float *from, long apart) {
    const picture *what = &job->what;
    const place at = place_of(what, tile);
    const long first = ((at.image * what->out_height + at.row) * what->out_width + at.column) * job->kernels;
    const long rows = what->out_height - at.row, columns = what->out_width - at.column;
    const vec slope = (vec){0} + job->slope;
    for (long kernel = 0; kernel < job->kernels; kernel += LANES) {
        const long lanes = job->kernels - kernel;
        const vec bias = load(job->bias + kernel);
        vec values[TILE * REACH];
        UNROLLED for (int x = 0; x < REACH; x++) {
            vec column[REACH], made[TILE];
            UNROLLED for (int y = 0; y < REACH; y++) column[y] = load(from + (y * REACH + x) * apart + kernel);
            from_points(column, made);
            UNROLLED for (int y = 0; y < TILE; y++) values[y * REACH + x] = made[y];
        }
        UNROLLED for (int y = 0; y < TILE; y++) {
            if (y >= rows) break;
            vec made[TILE];
            from_points(values + y * REACH, made);
            UNROLLED for (int x = 0; x < TILE; x++) {
                if (x >= columns) break;
                const long pixel = first + (y * what->out_width + x) * job->kernels + kernel;
                vec value = rectified(made[x] + bias, slope);
                if (job->add) value += load_some(job->add + pixel, lanes);
                store_some(job->out + pixel, value, lanes);
            }
        }
    }
}

static int forward_item(const void *argument, long item) {
    const forward *job = argument;
    const picture *what = &job->what;
    const long channels = what->channels, width = rounded(channels, LANES), batch = job->batch;
    const long blocks = rounded(job->kernels, BLOCK) / BLOCK;
    /* One vector more, so that the points of a tile do not all fall into the same few lines of the cache. */
    const long in_apart = batch * width + LANES, out_apart = batch * blocks * BLOCK + LANES;
    float *in = zeros(POINTS * (in_apart + out_apart));
    if (!in) return -1;
    float *out = in + POINTS * in_apart;
    const long all = (tiles_of(what) + batch - 1) / batch;
    for (long part = strip_start(all, job->batches, item); part < strip_start(all, job->batches, item + 1); part++) {
        const long first = part * batch, left = tiles_of(what) - first, count = left < batch ? left : batch;
        for (long i = 0; i < count; i++) tile_to_points(what, first + i, job->nothing, in + i * width, in_apart);
        for (long point = 0; point < POINTS; point++)
            for (long block = 0; block < blocks; block++) {
                const float *weights = job->weights + (point * blocks + block) * channels * BLOCK;
                for (long i = 0; i < count; i += WIDE)
                    rows_of_product(
                        in + point * in_apart + i * width, width, channels, weights,
                        out + point * out_apart + i * blocks * BLOCK + block * BLOCK, blocks * BLOCK, WIDE
                    );
            }
        for (long i = 0; i < count; i++) finish_tile(job, first + i, out + i * blocks * BLOCK, out_apart);
    }
    free(in);
    return 0;
}

/* out = leaky(convolution + bias) [+ add].
 * in: (images, height, width, channels); weight: (kernels, channels, 3, 3); bias: (kernels) or NULL; add: like out,
 * (images, height + 2 padding - 2, width + 2 padding - 2, kernels), or NULL.
 * Returns 0, -1 where memory ran out, or -2 where the picture is smaller than a kernel. */
int polyres_winograd(
    const float *in, const float *weight, const float *bias, const float *add, float *out, long images, long height,
    long width, long channels, long kernels, long padding, float slope, int threads
) {
    forward job = {.what = picture_of(in, images, height, width, channels, padding)};
    if (job.what.out_height < 1 || job.what.out_width < 1) return -2;
    const long wide = rounded(kernels, BLOCK), size = POINTS * wide * channels;
    float *memory = zeros(size + wide + channels + kernels);
    if (!memory) return -1;
    kernels_to_points(weight, memory, kernels, channels);
    if (bias) memcpy(memory + size, bias, kernels * sizeof(float));
    job.weights = memory, job.bias = memory + size, job.nothing = memory + size + wide;
    job.add = add, job.out = out, job.kernels = kernels, job.slope = slope;
    job.batch = batch_of(rounded(channels, LANES) + wide, tiles_of(&job.what));
    const long all = (tiles_of(&job.what) + job.batch - 1) / job.batch;
    job.batches = threads == 1 ? 1 : all < 4L * threads ? all : 4L * threads;
    const int status = share_out(forward_item, &job, job.batches, threads);
    free(memory);
    return status;
}

typedef struct {
    picture what;
    const float *gradient, *nothing;
    float *sums; /* one (POINTS, blocks, channels, BLOCK) for each part */
    long kernels, batch, parts;
} backward;

/* `count` channels from `in` on: to[channel][block] += sum over tiles of in[tile][channel] * gradient[tile][block]. */
INLINE void add_products(
    const float *in, long in_apart, const float *gradient, long gradient_apart, float *to, long tiles, const int count
) {
    vec sums[WIDE][VECTORS];
    UNROLLED for (int i = 0; i < count; i++)
        UNROLLED for (int j = 0; j < VECTORS; j++) sums[i][j] = load(to + i * BLOCK + j * LANES);
    for (long tile = 0; tile < tiles; tile++, in += in_apart, gradient += gradient_apart) {
        vec made[VECTORS];
        UNROLLED for (int j = 0; j < VECTORS; j++) made[j] = load(gradient + j * LANES);
        UNROLLED for (int i = 0; i < count; i++) {
            vec value = in[i] - (vec){0};
            HELD(value);
            UNROLLED for (int j = 0; j < VECTORS; j++) sums[i][j] += made[j] * value;
        }
    }
    UNROLLED for (int i = 0; i < count; i++)
        UNROLLED for (int j = 0; j < VECTORS; j++) store(to + i * BLOCK + j * LANES, sums[i][j]);
}

static int backward_item(const void *argument, long item) {
    const backward *job = argument;
    const picture *what = &job->what;
    const long channels = rounded(what->channels, LANES), wide = rounded(job->kernels, BLOCK), batch = job->batch;
    const long in_apart = batch * channels + LANES, out_apart = batch * wide + LANES;
    float *sums = job->sums + item * POINTS * wide * channels;
    float *in = zeros(POINTS * (in_apart + out_apart));
    if (!in) return -1;
    float *out = in + POINTS * in_apart;
    const long all = (tiles_of(what) + batch - 1) / batch;
    for (long part = strip_start(all, job->parts, item); part < strip_start(all, job->parts, item + 1); part++) {
        const long first = part * batch, left = tiles_of(what) - first, count = left < batch ? left : batch;
        for (long i = 0; i < count; i++) {
            const long tile = first + i;
            tile_to_points(what, tile, job->nothing, in + i * channels, in_apart);
            gradient_tile_to_points(what, job->gradient, job->kernels, tile, job->nothing, out + i * wide, out_apart);
        }
        for (long point = 0; point < POINTS; point++)
            for (long block = 0; block < wide; block += BLOCK) {
                const float *from = in + point * in_apart, *made = out + point * out_apart + block;
                float *to = sums + (point * wide + block) * channels;
                long channel = 0;
                for (; channel + WIDE <= channels; channel += WIDE)
                    add_products(from + channel, channels, made, wide, to + channel * BLOCK, count, WIDE);
                for (; channel < channels; channel += NARROW)
                    add_products(from + channel, channels, made, wide, to + channel * BLOCK, count, NARROW);
            }
    }
    free(in);
    return 0;
}

/* The gradient of the weight, (kernels, channels, 3, 3), given that of the output; sizes and result as above. The same
 * on every run with as many threads. */
int polyres_winograd_weight(
    const float *in, const float *gradient, float *out, long images, long height, long width, long channels,
    long kernels, long padding, int threads
) {
    backward job = {.what = picture_of(in, images, height, width, channels, padding), .gradient = gradient};
    if (job.what.out_height < 1 || job.what.out_width < 1) return -2;
    const long wide = rounded(kernels, BLOCK), depth = rounded(channels, LANES), size = POINTS * wide * depth;
    job.batch = batch_of(depth + wide, tiles_of(&job.what));
    const long all = (tiles_of(&job.what) + job.batch - 1) / job.batch;
    job.parts = all < threads ? all : threads;
    float *memory = zeros(job.parts * size + channels + kernels);
    if (!memory) return -1;
    job.sums = memory, job.nothing = memory + job.parts * size, job.kernels = kernels;
    const int status = share_out(backward_item, &job, job.parts, threads);
    for (long part = 1; part < job.parts; part++)
        for (long i = 0; i < size; i++) memory[i] += memory[part * size + i];
    kernels_from_points(memory, out, kernels, channels);
    free(memory);
    return status;
}
