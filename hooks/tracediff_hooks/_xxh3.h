/* XXH3 of more than 240 bytes, in steps of whole blocks, so that another pass can read each block
 * while it lies in the processor's cache. https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md.
 */

#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "only for little-endian processors"
#endif

#define XXH3_STRIPE 64
#define XXH3_STRIPES 16
#define XXH3_BLOCK (XXH3_STRIPE * XXH3_STRIPES)
#define XXH3_SECRET 192

#define PRIME32_1 0x9E3779B1u
#define PRIME64_1 0x9E3779B185EBCA87u
#define PRIME64_2 0xC2B2AE3D27D4EB4Fu

#ifndef BY_AVX2
#if defined(__x86_64__) && defined(__GNUC__)
#define BY_AVX2 1
#else
#define BY_AVX2 0
#endif
#endif
#if BY_AVX2
#include <immintrin.h>
#endif

static const uint8_t secret[XXH3_SECRET] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

typedef struct {
    uint64_t sums[8];
} Hash;

static inline uint64_t word(const void *place) {
    uint64_t found;
    memcpy(&found, place, sizeof found);
    return found;
}

static inline Hash hash_begin(void) {
    Hash hash = {{0xC2B2AE3Du, PRIME64_1, PRIME64_2, 0x165667B19E3779F9u, 0x85EBCA77C2B2AE63u,
                  0x85EBCA77u, 0x27D4EB2F165667C5u, PRIME32_1}};
    return hash;
}

static inline void add_stripe(Hash *hash, const uint8_t *stripe, const uint8_t *key) {
    for (int lane = 0; lane < 8; lane++) {
        uint64_t data = word(stripe + 8 * lane), keyed = data ^ word(key + 8 * lane);
        hash->sums[lane ^ 1] += data;
        hash->sums[lane] += (keyed & 0xFFFFFFFFu) * (keyed >> 32);
    }
}

static inline void hash_blocks(Hash *hash, const uint8_t *data, int64_t blocks) {
    const uint8_t *key = secret + XXH3_SECRET - XXH3_STRIPE;
    for (; blocks > 0; blocks--, data += XXH3_BLOCK) {
        for (int stripe = 0; stripe < XXH3_STRIPES; stripe++)
            add_stripe(hash, data + XXH3_STRIPE * stripe, secret + 8 * stripe);
        for (int lane = 0; lane < 8; lane++) {
            uint64_t sum = hash->sums[lane];
            hash->sums[lane] = (sum ^ (sum >> 47) ^ word(key + 8 * lane)) * PRIME32_1;
        }
    }
}

#if BY_AVX2
/* Bytes ahead that are asked for: the processor does not see by itself that pages go on. */
#define AHEAD 1024
#define LANES4(place) _mm256_loadu_si256((const __m256i *)(place))

/* The same, four lanes at a time: compilers do not find that the products are of 32 bits. */
static inline __attribute__((target("avx2"), always_inline)) void hash_blocks_avx2(
    Hash *hash, const uint8_t *data, int64_t blocks) {
    const uint8_t *key = secret + XXH3_SECRET - XXH3_STRIPE;
    const __m256i prime = _mm256_set1_epi32((int)PRIME32_1);
    __m256i sums[2] = {LANES4(hash->sums), LANES4(hash->sums + 4)};
    for (; blocks > 0; blocks--, data += XXH3_BLOCK) {
        for (int stripe = 0; stripe < XXH3_STRIPES; stripe++) {
            __builtin_prefetch(data + XXH3_STRIPE * stripe + AHEAD);
            for (int half = 0; half < 2; half++) {
                __m256i found = LANES4(data + XXH3_STRIPE * stripe + 32 * half);
                __m256i keyed = _mm256_xor_si256(found, LANES4(secret + 8 * stripe + 32 * half));
                __m256i product = _mm256_mul_epu32(keyed, _mm256_srli_epi64(keyed, 32));
                __m256i swapped = _mm256_shuffle_epi32(found, _MM_SHUFFLE(1, 0, 3, 2));
                sums[half] = _mm256_add_epi64(_mm256_add_epi64(sums[half], swapped), product);
            }
        }
        for (int half = 0; half < 2; half++) {
            __m256i mixed = _mm256_xor_si256(sums[half], _mm256_srli_epi64(sums[half], 47));
            mixed = _mm256_xor_si256(mixed, LANES4(key + 32 * half));
            __m256i high = _mm256_mul_epu32(_mm256_srli_epi64(mixed, 32), prime);
            sums[half] = _mm256_add_epi64(
                _mm256_mul_epu32(mixed, prime), _mm256_slli_epi64(high, 32));
        }
    }
    _mm256_storeu_si256((__m256i *)hash->sums, sums[0]);
    _mm256_storeu_si256((__m256i *)(hash->sums + 4), sums[1]);
}
#endif

/* How many whole blocks of `size` bytes go into the hash as such; at least a byte is left. */
static inline int64_t whole_blocks(int64_t size) { return (size - 1) / XXH3_BLOCK; }

/* Adds what is left after the whole blocks of `size` bytes at `data`. */
static inline void hash_rest(Hash *hash, const uint8_t *data, int64_t size) {
    int64_t begin = whole_blocks(size) * XXH3_BLOCK;
    int64_t stripes = (size - 1 - begin) / XXH3_STRIPE;
    for (int64_t stripe = 0; stripe < stripes; stripe++)
        add_stripe(hash, data + begin + XXH3_STRIPE * stripe, secret + 8 * stripe);
    add_stripe(hash, data + size - XXH3_STRIPE, secret + XXH3_SECRET - XXH3_STRIPE - 7);
}

static inline uint64_t merged(const Hash *hash, const uint8_t *key, uint64_t sum) {
    for (int pair = 0; pair < 8; pair += 2) {
        unsigned __int128 product =
            (unsigned __int128)(hash->sums[pair] ^ word(key + 8 * pair)) *
            (hash->sums[pair + 1] ^ word(key + 8 * pair + 8));
        sum += (uint64_t)product ^ (uint64_t)(product >> 64);
    }
    sum = (sum ^ (sum >> 37)) * 0x165667919E3779F9u;
    return sum ^ (sum >> 32);
}

/* The low 64 bits of the hash of 128 bits, which are the hash of 64 bits. */
static inline uint64_t hash_low(const Hash *hash, int64_t size) {
    return merged(hash, secret + 11, (uint64_t)size * PRIME64_1);
}

static inline uint64_t hash_high(const Hash *hash, int64_t size) {
    return merged(hash, secret + XXH3_SECRET - XXH3_STRIPE - 11, ~((uint64_t)size * PRIME64_2));
}
