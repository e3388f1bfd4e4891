/* Single passes over arrays: what `digest.py`, `moments.py` and `sketch.py` compute, read once.
 *
 * Plain C without Python's headers, so that one library serves every Python of a machine. Sums are
 * formed in a fixed order, without fused multiplications: the same numbers on every processor.
 */

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "_xxh3.h"

#define EXPORT __attribute__((visibility("default")))
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define WIDEST __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDEST
#endif

/* Raised with each change of what a function takes or returns. */
EXPORT int tracediff_passes_version(void) { return 2; }

/* How many sums are formed side by side; element i belongs to sum i % LANES. */
#define LANES 32

typedef struct {
    float low[LANES], high[LANES];
    double sums[LANES], squares[LANES];
    int32_t nans[LANES], infinities[LANES];
} Lanes;

static inline __attribute__((always_inline)) void take(Lanes *lanes, const float *row, int count) {
    for (int lane = 0; lane < count; lane++) {
        double wide = row[lane];
        lanes->low[lane] = row[lane] < lanes->low[lane] ? row[lane] : lanes->low[lane];
        lanes->high[lane] = row[lane] > lanes->high[lane] ? row[lane] : lanes->high[lane];
        lanes->sums[lane] += wide;
        lanes->squares[lane] += wide * wide;
    }
}

/* The same where elements may not be finite: these are counted and otherwise left out. */
static inline __attribute__((always_inline)) void sift(Lanes *lanes, const float *row, int count) {
    for (int lane = 0; lane < count; lane++) {
        float value = row[lane];
        int32_t nan = value != value, infinite = fabsf(value) > 3.40282347e+38f;
        double wide = nan | infinite ? 0.0f : value;
        float least = nan | infinite ? INFINITY : value, most = nan | infinite ? -INFINITY : value;
        lanes->low[lane] = least < lanes->low[lane] ? least : lanes->low[lane];
        lanes->high[lane] = most > lanes->high[lane] ? most : lanes->high[lane];
        lanes->sums[lane] += wide;
        lanes->squares[lane] += wide * wide;
        lanes->nans[lane] += nan;
        lanes->infinities[lane] += infinite;
    }
}

static inline __attribute__((always_inline)) void clear(Lanes *lanes) {
    memset(lanes, 0, sizeof *lanes);
    for (int lane = 0; lane < LANES; lane++) {
        lanes->low[lane] = INFINITY;
        lanes->high[lane] = -INFINITY;
    }
}

static inline __attribute__((always_inline)) void total(const Lanes *lanes, double *found) {
    double low = INFINITY, high = -INFINITY, sum = 0, squares = 0, nans = 0, infinities = 0;
    for (int lane = 0; lane < LANES; lane++) {
        low = lanes->low[lane] < low ? lanes->low[lane] : low;
        high = lanes->high[lane] > high ? lanes->high[lane] : high;
        sum += lanes->sums[lane];
        squares += lanes->squares[lane];
        nans += lanes->nans[lane];
        infinities += lanes->infinities[lane];
    }
    found[0] = low;
    found[1] = high;
    found[2] = sum;
    found[3] = squares;
    found[4] = nans;
    found[5] = infinities;
}

static inline __attribute__((always_inline)) void take_all(
    Lanes *lanes, const float *values, int64_t size) {
    int64_t whole = size / LANES * LANES;
    for (int64_t place = 0; place < whole; place += LANES) take(lanes, values + place, LANES);
    take(lanes, values + whole, (int)(size - whole));
}

/* Smallest, largest, sum and sum of squares of the finite elements; NaNs, infinities. */
static inline __attribute__((always_inline)) void finish(
    Lanes *lanes, const float *values, int64_t size, double *found) {
    int64_t whole = size / LANES * LANES;
    total(lanes, found);
    /* No sum of squares of float32 overflows float64: it is finite where every element is. */
    if (found[3] < INFINITY) return;
    clear(lanes);
    for (int64_t place = 0; place < whole; place += LANES) sift(lanes, values + place, LANES);
    sift(lanes, values + whole, (int)(size - whole));
    total(lanes, found);
}

EXPORT WIDEST void tracediff_moments(const float *values, int64_t size, double *found) {
    Lanes lanes;
    clear(&lanes);
    take_all(&lanes, values, size);
    finish(&lanes, values, size, found);
}

/* Blocks of the hash that are passed over together while they lie in the nearest cache. */
#define AT_ONCE 16

typedef struct {
    int64_t count;
    const int64_t *places, *sizes;
    const int8_t *wanted;
    uint64_t *hashes;
    double *moments;
} Arrays;

typedef void HashBlocks(Hash *, const uint8_t *, int64_t);

static inline __attribute__((always_inline)) void describe_all(
    const Arrays *arrays, HashBlocks *hash_some) {
    for (int64_t number = 0; number < arrays->count; number++) {
        const uint8_t *data = (const uint8_t *)(intptr_t)arrays->places[number];
        int64_t size = arrays->sizes[number], blocks = whole_blocks(size);
        int wanted = arrays->wanted[number];
        const float *values = (const float *)data;
        Hash hash = hash_begin();
        Lanes lanes;
        if (wanted) clear(&lanes);
        for (int64_t block = 0; block < blocks; block += AT_ONCE) {
            int64_t together = blocks - block < AT_ONCE ? blocks - block : AT_ONCE;
            const uint8_t *from = data + block * XXH3_BLOCK;
            hash_some(&hash, from, together);
            if (wanted) take_all(&lanes, (const float *)from, together * XXH3_BLOCK / 4);
        }
        hash_rest(&hash, data, size);
        arrays->hashes[2 * number] = hash_low(&hash, size);
        arrays->hashes[2 * number + 1] = hash_high(&hash, size);
        if (!wanted) continue;
        take_all(&lanes, values + blocks * XXH3_BLOCK / 4, size / 4 - blocks * XXH3_BLOCK / 4);
        finish(&lanes, values, size / 4, arrays->moments + 6 * number);
    }
}

static void describe_plainly(const Arrays *arrays) { describe_all(arrays, hash_blocks); }

#if BY_AVX2
static __attribute__((target("avx2"))) void describe_by_avx2(const Arrays *arrays) {
    describe_all(arrays, hash_blocks_avx2);
}

static __attribute__((target("avx512f"))) void describe_by_avx512(const Arrays *arrays) {
    describe_all(arrays, hash_blocks_avx2);
}
#endif

/* The hash of 128 bits of each of some arrays, and the moments of those that they are wanted of.
 *
 * Each has more than 240 bytes, of which `places` are the addresses; of what moments are wanted of
 * is float32. Low and high words of a hash stand side by side, as the six numbers of moments do.
 */
EXPORT void tracediff_describe(
    int64_t count, const int64_t *places, const int64_t *sizes, const int8_t *wanted,
    uint64_t *hashes, double *moments) {
    Arrays arrays = {count, places, sizes, wanted, hashes, moments};
#if BY_AVX2
    if (__builtin_cpu_supports("avx512f")) return describe_by_avx512(&arrays);
    if (__builtin_cpu_supports("avx2")) return describe_by_avx2(&arrays);
#endif
    describe_plainly(&arrays);
}

/* The hash of 64 bits of each row of `width` bytes, more than 240. */
EXPORT void tracediff_rows(const uint8_t *data, int64_t rows, int64_t width, uint64_t *hashes) {
    for (; rows > 0; rows--, data += width) {
        Hash hash = hash_begin();
        hash_blocks(&hash, data, whole_blocks(width));
        hash_rest(&hash, data, width);
        *hashes++ = hash_low(&hash, width);
    }
}

/* Adds a random projection to `found`; see docs/trace-format.md.
 *
 * Blocks of `rows` times `width` elements, of which the last may be shorter, are added up, `together`
 * of them, in `sums`, which has room for one. Element i of block k changes its sign where bit 31 of
 * `signs[offsets[k] + i]` is set. The rows of these sums are then added to `found`, each moved on
 * by its place in `turns`.
 */
EXPORT WIDEST void tracediff_sketch(
    const uint32_t *values, int64_t size, int64_t width, int64_t rows, int64_t together,
    const uint32_t *signs, const int64_t *offsets, const int64_t *turns, double *sums,
    double *found) {
    int64_t block = rows * width;
    while (size > 0) {
        int64_t used = size < block ? size : block;
        memset(sums, 0, used * sizeof *sums);
        for (int64_t number = 0; number < together && size > 0; number++) {
            const uint32_t *sign = signs + *offsets++;
            int64_t count = size < block ? size : block;
            for (int64_t place = 0; place < count; place++) {
                /* By the bit: a product with a tiny element would take a hundred times as long. */
                uint32_t bits = values[place] ^ (sign[place] & 0x80000000u);
                float element;
                memcpy(&element, &bits, sizeof element);
                sums[place] += element;
            }
            values += count;
            size -= count;
        }
        for (int64_t row = 0; row < rows; row++, turns++) {
            int64_t left = used - row * width, turn = *turns;
            int64_t count = left < width ? left : width;
            const double *from = sums + row * width;
            for (int64_t place = 0; place < count; place++) {
                int64_t to = place + turn;
                found[to < width ? to : to - width] += from[place];
            }
        }
    }
}
