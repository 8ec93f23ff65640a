/* The end of a block: its side paths, what gathers them, contrast attention's statistics, and what attention leaves
 * added to the block's input. Side paths live in the second cache for a row, and are never written to main memory. */
#include <stdlib.h>

#include "convolution.h"

enum {
    PORTION = 64, /* pixels whose mean is taken before their squares */
    ROWS = 12     /* of a strip: fixed, so that sums are the same on any number of threads */
};

typedef struct {
    double count, mean[LANES], squares[LANES]; /* of differences from the mean */
} moments;

typedef struct {
    const float *in;
    long pixels;
    moments *parts;
} measurement;

/* Chan, Golub and LeVeque's rule for the moments of two sets together. */
static void join(moments *into, const moments *more) {
    const double total = into->count + more->count;
    if (total == 0) return;
    for (int i = 0; i < LANES; i++) {
        const double apart = more->mean[i] - into->mean[i];
        into->mean[i] += apart * more->count / total;
        into->squares[i] += more->squares[i] + apart * apart * into->count * more->count / total;
    }
    into->count = total;
}

static void measure(moments *into, const float *row, long width) {
    for (long from = 0; from < width; from += PORTION) {
        const long to = from + PORTION < width ? from + PORTION : width;
        vec sum = {0}, squares = {0};
        for (long i = from; i < to; i++) sum += load(row + i * LANES);
        const vec mean = sum / (float)(to - from);
        for (long i = from; i < to; i++) {
            const vec difference = load(row + i * LANES) - mean;
            squares += difference * difference;
        }
        moments portion = {.count = (double)(to - from)};
        for (int i = 0; i < LANES; i++) portion.mean[i] = mean[i], portion.squares[i] = squares[i];
        join(into, &portion);
    }
}

static long strips_of(long height) { return (height + ROWS - 1) / ROWS; }

typedef struct {
    const float *const *stages;
    const layer *sides, *gather;
    float *out;
    moments *parts; /* [image][strip][chunk] */
    long height, width;
    int count;
} ending;

/* Rows first, ..., last - 1 of one image. `kept` holds a row of every side path. */
static void run_ending(
    const ending *job, long image, long first, long last, window *through, float *kept, moments *parts
) {
    const long length = job->width * LANES, plane = job->height * length;
    const long narrow = job->sides->out_chunks * length;
    float *out = job->out + image * job->gather->out_chunks * plane;
    for (long row = first; row < last; row++) {
        for (int i = 0; i < job->count; i++) {
            const layer *side = &job->sides[i];
            const float *rows[LARGEST] = {job->stages[i] + image * in_chunks(side) * plane + row * length};
            const int is_last = i == job->count - 1;
            if (is_last) look_at(through, row, rows);
            row_of_layer(side, rows, is_last ? through->apart : plane, kept + i * narrow, length, NULL, 0, job->width);
        }
        const float *gathered = kept;
        row_of_layer(job->gather, &gathered, length, out + row * length, plane, NULL, 0, job->width);
        for (long chunk = 0; chunk < job->gather->out_chunks; chunk++)
            measure(&parts[chunk], out + chunk * plane + row * length, job->width);
    }
}

static int ending_item(const void *argument, long item) {
    const ending *job = argument;
    const layer *last_side = &job->sides[job->count - 1];
    const long strips = strips_of(job->height), image = item / strips, first = item % strips * ROWS;
    const long last = first + ROWS < job->height ? first + ROWS : job->height;
    const float *in = job->stages[job->count - 1] + image * in_chunks(last_side) * job->height * job->width * LANES;
    float *kept = zeros(job->count * job->sides->out_chunks * job->width * LANES);
    window through = {0};
    const int failed = !kept || open_window(&through, last_side, in, job->height, job->width, first);
    if (!failed)
        run_ending(job, image, first, last, &through, kept, job->parts + item * job->gather->out_chunks);
    free(through.memory);
    free(kept);
    return failed ? -1 : 0;
}

static void sum_up(const ending *job, long images, float *mean, float *variance) {
    const long strips = strips_of(job->height), chunks = job->gather->out_chunks;
    for (long chunk = 0; chunk < images * chunks; chunk++) {
        moments all = {0};
        for (long strip = 0; strip < strips; strip++)
            join(&all, &job->parts[(chunk / chunks * strips + strip) * chunks + chunk % chunks]);
        for (int i = 0; i < LANES; i++) {
            mean[chunk * LANES + i] = (float)all.mean[i];
            variance[chunk * LANES + i] = (float)(all.squares[i] / all.count);
        }
    }
}

/* out = gather(all sides, each of its stage), and the mean and variance of each channel, (images, chunks, LANES).
 * stages: `count` times (images, chunks, height, width, LANES). sides: as many; all but the last are 1x1, all give as
 * many chunks. `out` may be any stage but the last. Returns as polyres_convolution does. */
int polyres_end_of_block(
    const float *const *stages, const layer *sides, int count, const layer *gather, float *out, long images,
    long height, long width, float *mean, float *variance, int threads
) {
    const long items = images * strips_of(height);
    if (count < 1 || gather->size != 1 || !is_possible(&sides[count - 1])) return -2;
    for (int i = 0; i < count - 1; i++)
        if (sides[i].size != 1) return -2;
    ending job = {stages, sides, gather, out, calloc(items * gather->out_chunks, sizeof(moments)), height, width, count};
    if (!job.parts) return -1;
    const int status = share_out(ending_item, &job, items, threads);
    if (!status) sum_up(&job, images, mean, variance);
    free(job.parts);
    return status;
}

typedef struct {
    float *to, *total;
    const float *features, *factors;
    const layer *what;
    long height, width;
    int accumulate;
} addition;

static int addition_item(const void *argument, long item) {
    const addition *job = argument;
    const long chunks = in_chunks(job->what), length = job->width * LANES, plane = job->height * length;
    const long image = item / job->height, here = item % job->height * length;
    float *to = job->to + image * chunks * plane + here;
    const float *features = job->features + image * chunks * plane + here;
    for (long chunk = 0; chunk < chunks; chunk++) {
        const vec factor = load(job->factors + (image * chunks + chunk) * LANES);
        for (long i = chunk * plane; i < chunk * plane + length; i += LANES)
            store(to + i, load(to + i) + factor * load(features + i));
    }
    const float *row = to;
    float *total = job->total + image * job->what->out_chunks * plane + here;
    row_of_layer(job->what, &row, plane, total, plane, NULL, job->accumulate, job->width);
    return 0;
}

/* to += factors * features, then total = leaky(convolution of `to` [+ total]), the convolution being 1x1.
 * factors: (images, chunks, LANES); the rest (images, chunks, height, width, LANES). Returns 0 or -2. */
int polyres_add_block(
    float *to, const float *features, const float *factors, const layer *what, float *total, long images, long height,
    long width, int accumulate, int threads
) {
    if (what->size != 1) return -2;
    addition job = {to, total, features, factors, what, height, width, accumulate};
    return share_out(addition_item, &job, images * height, threads);
}
