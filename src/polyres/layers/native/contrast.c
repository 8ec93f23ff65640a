/* Contrast attention: the mean and variance of each channel, and features weighted by channel and added. */
#include <stdlib.h>

#include "common.h"

enum {
    PORTION = 64, /* pixels whose mean is taken before their squares: they stay in the first cache */
    STRIPS = 16   /* fixed, so that sums are the same on any number of threads */
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

static int measure_item(const void *argument, long item) {
    const measurement *job = argument;
    const float *in = job->in + item / STRIPS * job->pixels * LANES;
    const long last = strip_start(job->pixels, STRIPS, item % STRIPS + 1);
    moments all = {0};
    for (long from = strip_start(job->pixels, STRIPS, item % STRIPS); from < last; from += PORTION) {
        const long to = from + PORTION < last ? from + PORTION : last;
        vec sum = {0}, squares = {0};
        for (long i = from; i < to; i++) sum += load(in + i * LANES);
        const vec mean = sum / (float)(to - from);
        for (long i = from; i < to; i++) {
            const vec difference = load(in + i * LANES) - mean;
            squares += difference * difference;
        }
        moments portion = {.count = (double)(to - from)};
        for (int i = 0; i < LANES; i++) portion.mean[i] = mean[i], portion.squares[i] = squares[i];
        join(&all, &portion);
    }
    job->parts[item] = all;
    return 0;
}

/* in: (images * chunks, pixels, LANES); mean and variance: (images * chunks, LANES). Returns 0, or -1 where memory ran
 * out. */
int polyres_moments(const float *in, long chunks, long pixels, float *mean, float *variance, int threads) {
    measurement job = {in, pixels, calloc(chunks * STRIPS, sizeof(moments))};
    if (!job.parts) return -1;
    share_out(measure_item, &job, chunks * STRIPS, threads);
    for (long chunk = 0; chunk < chunks; chunk++) {
        moments all = {0};
        for (long strip = 0; strip < STRIPS; strip++) join(&all, &job.parts[chunk * STRIPS + strip]);
        for (int i = 0; i < LANES; i++) {
            mean[chunk * LANES + i] = (float)all.mean[i];
            variance[chunk * LANES + i] = (float)(all.squares[i] / all.count);
        }
    }
    free(job.parts);
    return 0;
}

typedef struct {
    float *to;
    const float *features, *factors;
    long pixels;
} addition;

static int add_item(const void *argument, long item) {
    const addition *job = argument;
    const long chunk = item / STRIPS, last = strip_start(job->pixels, STRIPS, item % STRIPS + 1);
    const vec factor = load(job->factors + chunk * LANES);
    float *to = job->to + chunk * job->pixels * LANES;
    const float *features = job->features + chunk * job->pixels * LANES;
    for (long i = strip_start(job->pixels, STRIPS, item % STRIPS); i < last; i++)
        store(to + i * LANES, load(to + i * LANES) + factor * load(features + i * LANES));
    return 0;
}

/* to += factors * features: (images * chunks, pixels, LANES), factors (images * chunks, LANES). */
int polyres_add_weighted(
    float *to, const float *features, const float *factors, long chunks, long pixels, int threads
) {
    addition job = {to, features, factors, pixels};
    return share_out(add_item, &job, chunks * STRIPS, threads);
}
