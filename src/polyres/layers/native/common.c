/* Threads and memory. */
#include "common.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

enum { MOST_THREADS = 256, HUGE_PAGE = 2 << 20 };

typedef struct {
    work_fn work;
    const void *job;
    long items;
    atomic_long next;
    atomic_int failed;
} crew;

static void toil(void *argument) {
    crew *all = argument;
    for (long item; (item = atomic_fetch_add(&all->next, 1)) < all->items;)
        if (all->work(all->job, item)) atomic_store(&all->failed, 1);
}

static void *labour(void *argument) {
    toil(argument);
    return NULL;
}

/* GOMP_parallel of the OpenMP runtime that torch runs on. */
typedef void (*team)(void (*work)(void *), void *argument, unsigned threads, unsigned flags);

static team torchs_team;

/* Share work out among the threads that torch's own operations run on, or among new ones if there is no `found`.
 * Having finished, torch's threads go on spinning for some milliseconds: threads beside them get half a core. */
void polyres_use_team(team found) { torchs_team = found; }

int share_out(work_fn work, const void *job, long items, int threads) {
    crew all = {.work = work, .job = job, .items = items};
    pthread_t helpers[MOST_THREADS];
    int started = 0;
    if (threads > items) threads = (int)items;
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    if (torchs_team && threads > 1) {
        torchs_team(toil, &all, (unsigned)threads, 0);
        return atomic_load(&all.failed) ? -1 : 0;
    }
    /* Threads made for each call cost some 20 us. */
    while (started < threads - 1 && !pthread_create(&helpers[started], NULL, labour, &all)) started++;
    labour(&all);
    while (started) pthread_join(helpers[--started], NULL);
    return atomic_load(&all.failed) ? -1 : 0;
}

float *zeros(size_t count) {
    void *memory = NULL;
    if (posix_memalign(&memory, 64, count * sizeof(float))) return NULL;
    return memset(memory, 0, count * sizeof(float));
}

int polyres_lanes(void) { return LANES; }

/* Ask for huge pages: fresh memory is handed out page by page, which for large features costs more than filling it. */
void polyres_in_huge_pages(void *memory, size_t bytes) {
#ifdef MADV_HUGEPAGE
    uintptr_t low = ((uintptr_t)memory + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1);
    uintptr_t high = ((uintptr_t)memory + bytes) & ~(uintptr_t)(HUGE_PAGE - 1);
    if (high > low) madvise((void *)low, high - low, MADV_HUGEPAGE);
#else
    (void)memory, (void)bytes;
#endif
}
