/* What all kernels share: vectors of the machine's width, and work divided among threads.
 *
 * Features lie in blocks: [image][chunk][row][column][LANES], a chunk being LANES neighbouring channels. Lanes beyond
 * the last channel hold zeros. Whatever a kernel reads or writes is aligned to a vector.
 */
#ifndef POLYRES_COMMON_H
#define POLYRES_COMMON_H

#include <stdatomic.h>
#include <stddef.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

/* WIDE pixels of a dense convolution and TWIN pixels of a pair are computed at a time: as many as registers hold. */
#if defined(__AVX512F__)
enum { LANES = 16, WIDE = 12, TWIN = 8 };
#elif defined(__AVX__)
enum { LANES = 8, WIDE = 6, TWIN = 4 };
#elif defined(__aarch64__)
enum { LANES = 4, WIDE = 12, TWIN = 8 };
#else
enum { LANES = 4, WIDE = 6, TWIN = 4 };
#endif

typedef float vec __attribute__((vector_size(4 * LANES), may_alias));
typedef int mask __attribute__((vector_size(4 * LANES), may_alias));

#define INLINE static inline __attribute__((always_inline))
#define UNROLLED _Pragma("GCC unroll 16")

INLINE vec load(const float *from) { return *(const vec *)from; }
INLINE void store(float *to, vec value) { *(vec *)to = value; }

/* The same of any alignment. */
typedef float loose __attribute__((vector_size(4 * LANES), may_alias, aligned(4)));

INLINE vec load_any(const float *from) { return *(const loose *)from; }
INLINE void store_any(float *to, vec value) { *(loose *)to = value; }

/* A vector of channels that have their opposites 8 further on: halves of one group, or of two in a row. */
#if defined(__AVX512F__)
INLINE vec load_opposed(const float *from) {
    const __m512d half = _mm512_castpd256_pd512(_mm256_castps_pd(_mm256_loadu_ps(from)));
    return (vec)_mm512_insertf64x4(half, _mm256_castps_pd(_mm256_loadu_ps(from + LANES)), 1);
}
INLINE void store_opposed(float *to, vec value) {
    _mm256_storeu_ps(to, _mm512_castps512_ps256((__m512)value));
    _mm256_storeu_pd((double *)(to + LANES), _mm512_extractf64x4_pd((__m512d)value, 1));
}
#else
INLINE vec load_opposed(const float *from) { return load_any(from); }
INLINE void store_opposed(float *to, vec value) { *(loose *)to = value; }
#endif

/* Keep a value in a register. Compilers fold a load into each of its uses, and loads are what then limits the loop. */
#if defined(__AVX512F__)
#define HELD(value) __asm__("" : "+v"(value))
#elif defined(__x86_64__)
#define HELD(value) __asm__("" : "+x"(value))
#else
#define HELD(value) (void)0
#endif

/* What is positive of it, zero elsewhere. */
INLINE vec positive(vec value) { return (vec)((mask)value & (value > 0)); }

INLINE float total(vec value) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)value); /* by halves, which is quicker than one by one */
#else
    float sum = 0;
    UNROLLED for (int lane = 0; lane < LANES; lane++) sum += value[lane];
    return sum;
#endif
}

/* PReLU. NaN stays NaN. */
INLINE vec rectified(vec value, vec slope) {
    mask positive = value > 0;
    vec scaled = value * slope;
    return (vec)((positive & (mask)value) | (~positive & (mask)scaled));
}

/* One of the items that a kernel is divided into; returns 0, or -1 where memory ran out. */
typedef int (*work_fn)(const void *job, long item);

/* Do all items on up to `threads` threads, the caller's among them; 0, or -1 where memory ran out. */
int share_out(work_fn work, const void *job, long items, int threads);

/* `count` floats, aligned and zero, or NULL; free() them. */
float *zeros(size_t count);

/* Where strip `index` of `strips` begins among `total` rows. */
INLINE long strip_start(long total, long strips, long index) { return total * index / strips; }

#endif
