// One native vector of the instruction set this file is compiled for, and a bundle of them that holds all lanes.
//
// Arithmetic and comparisons are the compiler's own vector extension (GCC, Clang), the same text for every set; fused
// multiply-add and square root, which it has no word for, are intrinsics.
#pragma once

#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#define NAS_CNTK_INLINE static inline __attribute__((always_inline))

namespace nas_cntk {
namespace {  // every instruction set's translation unit keeps its own copy: no mixing at link time

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;
#endif

template <class R>
struct Native;
template <>
struct Native<float> {
    typedef float type __attribute__((vector_size(vector_bytes)));
    typedef int32_t mask __attribute__((vector_size(vector_bytes)));
    static constexpr int32_t sign = INT32_MIN;
};
template <>
struct Native<double> {
    typedef double type __attribute__((vector_size(vector_bytes)));
    typedef int64_t mask __attribute__((vector_size(vector_bytes)));
    static constexpr int64_t sign = INT64_MIN;
};

template <class R>
struct Vec {
    using Real = R;
    using V = typename Native<R>::type;
    using M = typename Native<R>::mask;
    static constexpr int width = vector_bytes / sizeof(R);
    V v;

    NAS_CNTK_INLINE Vec all(R x);
    NAS_CNTK_INLINE Vec load(const R* p) { return {*reinterpret_cast<const V*>(p)}; }
    inline __attribute__((always_inline)) void store(R* p) const { *reinterpret_cast<V*>(p) = v; }
};

template <class R>
NAS_CNTK_INLINE Vec<R> operator+(Vec<R> a, Vec<R> b) { return {a.v + b.v}; }
template <class R>
NAS_CNTK_INLINE Vec<R> operator-(Vec<R> a, Vec<R> b) { return {a.v - b.v}; }
template <class R>
NAS_CNTK_INLINE Vec<R> operator*(Vec<R> a, Vec<R> b) { return {a.v * b.v}; }

template <class R>
NAS_CNTK_INLINE Vec<R> above_or_zero(Vec<R> a, Vec<R> b) {
    using V = typename Vec<R>::V;
    using M = typename Vec<R>::M;
    return {(V)((M)a.v & (M)(a.v > b.v))};
}
template <class R>
NAS_CNTK_INLINE Vec<R> choose_negative(Vec<R> s, Vec<R> x, Vec<R> y) { return {s.v < typename Vec<R>::V{} ? x.v : y.v}; }
template <class R>
NAS_CNTK_INLINE Vec<R> greater(Vec<R> a, Vec<R> b) { return {a.v > b.v ? a.v : b.v}; }

template <class R>
NAS_CNTK_INLINE Vec<R> magnitude(Vec<R> a) {
    using V = typename Vec<R>::V;
    using M = typename Vec<R>::M;
    return {(V)((M)a.v & ~(M{} + Native<R>::sign))};
}

// GCC builds a vector from a loop over its lanes by one insertion a lane; this it knows as one broadcast.
#if defined(__AVX512F__)
NAS_CNTK_INLINE Native<float>::type broadcast(float x) { return _mm512_set1_ps(x); }
NAS_CNTK_INLINE Native<double>::type broadcast(double x) { return _mm512_set1_pd(x); }
#elif defined(__AVX2__)
NAS_CNTK_INLINE Native<float>::type broadcast(float x) { return _mm256_set1_ps(x); }
NAS_CNTK_INLINE Native<double>::type broadcast(double x) { return _mm256_set1_pd(x); }
#elif defined(__SSE2__)
NAS_CNTK_INLINE Native<float>::type broadcast(float x) { return _mm_set1_ps(x); }
NAS_CNTK_INLINE Native<double>::type broadcast(double x) { return _mm_set1_pd(x); }
#else
NAS_CNTK_INLINE Native<float>::type broadcast(float x) { return Native<float>::type{x, x, x, x}; }
NAS_CNTK_INLINE Native<double>::type broadcast(double x) { return Native<double>::type{x, x}; }
#endif
template <class R>
inline __attribute__((always_inline)) Vec<R> Vec<R>::all(R x) { return {broadcast(x)}; }

#if defined(__AVX512F__)
NAS_CNTK_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
NAS_CNTK_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
NAS_CNTK_INLINE Vec<float> less(Vec<float> a, Vec<float> b, Vec<float> c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
NAS_CNTK_INLINE Vec<double> less(Vec<double> a, Vec<double> b, Vec<double> c) { return {_mm512_fnmadd_pd(a.v, b.v, c.v)}; }
NAS_CNTK_INLINE Vec<float> root(Vec<float> a) { return {_mm512_sqrt_ps(a.v)}; }
NAS_CNTK_INLINE Vec<double> root(Vec<double> a) { return {_mm512_sqrt_pd(a.v)}; }
#elif defined(__AVX2__)
NAS_CNTK_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
NAS_CNTK_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
NAS_CNTK_INLINE Vec<float> less(Vec<float> a, Vec<float> b, Vec<float> c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }
NAS_CNTK_INLINE Vec<double> less(Vec<double> a, Vec<double> b, Vec<double> c) { return {_mm256_fnmadd_pd(a.v, b.v, c.v)}; }
NAS_CNTK_INLINE Vec<float> root(Vec<float> a) { return {_mm256_sqrt_ps(a.v)}; }
NAS_CNTK_INLINE Vec<double> root(Vec<double> a) { return {_mm256_sqrt_pd(a.v)}; }
#elif defined(__SSE2__)
NAS_CNTK_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) { return {a.v * b.v + c.v}; }
NAS_CNTK_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) { return {a.v * b.v + c.v}; }
NAS_CNTK_INLINE Vec<float> less(Vec<float> a, Vec<float> b, Vec<float> c) { return {c.v - a.v * b.v}; }
NAS_CNTK_INLINE Vec<double> less(Vec<double> a, Vec<double> b, Vec<double> c) { return {c.v - a.v * b.v}; }
NAS_CNTK_INLINE Vec<float> root(Vec<float> a) { return {_mm_sqrt_ps(a.v)}; }
NAS_CNTK_INLINE Vec<double> root(Vec<double> a) { return {_mm_sqrt_pd(a.v)}; }
#elif defined(__ARM_NEON) && defined(__aarch64__)
NAS_CNTK_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
    return {(Vec<float>::V)vfmaq_f32((float32x4_t)c.v, (float32x4_t)a.v, (float32x4_t)b.v)};
}
NAS_CNTK_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
    return {(Vec<double>::V)vfmaq_f64((float64x2_t)c.v, (float64x2_t)a.v, (float64x2_t)b.v)};
}
NAS_CNTK_INLINE Vec<float> less(Vec<float> a, Vec<float> b, Vec<float> c) {
    return {(Vec<float>::V)vfmsq_f32((float32x4_t)c.v, (float32x4_t)a.v, (float32x4_t)b.v)};
}
NAS_CNTK_INLINE Vec<double> less(Vec<double> a, Vec<double> b, Vec<double> c) {
    return {(Vec<double>::V)vfmsq_f64((float64x2_t)c.v, (float64x2_t)a.v, (float64x2_t)b.v)};
}
NAS_CNTK_INLINE Vec<float> root(Vec<float> a) { return {(Vec<float>::V)vsqrtq_f32((float32x4_t)a.v)}; }
NAS_CNTK_INLINE Vec<double> root(Vec<double> a) { return {(Vec<double>::V)vsqrtq_f64((float64x2_t)a.v)}; }
#else
template <class R>
NAS_CNTK_INLINE Vec<R> fma(Vec<R> a, Vec<R> b, Vec<R> c) { return {a.v * b.v + c.v}; }
template <class R>
NAS_CNTK_INLINE Vec<R> less(Vec<R> a, Vec<R> b, Vec<R> c) { return {c.v - a.v * b.v}; }
NAS_CNTK_INLINE Vec<float> root(Vec<float> a) {
    for (int i = 0; i < Vec<float>::width; ++i) a.v[i] = __builtin_sqrtf(a.v[i]);
    return a;
}
NAS_CNTK_INLINE Vec<double> root(Vec<double> a) {
    for (int i = 0; i < Vec<double>::width; ++i) a.v[i] = __builtin_sqrt(a.v[i]);
    return a;
}
#endif

// Several native vectors that are always computed on together: independent chains of operations, one beside the other,
// keep a processor's pipelines full whose scheduler does not look far enough ahead to find them itself.
template <class R, int count>
struct Bundle {
    using Real = R;
    static constexpr int vectors = count;
    Vec<R> of[count];

    NAS_CNTK_INLINE Bundle all(R x) {
        Bundle b;
        for (int i = 0; i < count; ++i) b.of[i] = Vec<R>::all(x);
        return b;
    }
    NAS_CNTK_INLINE Bundle load(const R* p) {
        Bundle b;
        for (int i = 0; i < count; ++i) b.of[i] = Vec<R>::load(p + i * Vec<R>::width);
        return b;
    }
    inline __attribute__((always_inline)) void store(R* p) const {
        for (int i = 0; i < count; ++i) of[i].store(p + i * Vec<R>::width);
    }
};

#define NAS_CNTK_EACH(signature, expression)                    \
    template <class R, int count>                               \
    NAS_CNTK_INLINE Bundle<R, count> signature {                \
        Bundle<R, count> b;                                     \
        for (int i = 0; i < count; ++i) b.of[i] = (expression); \
        return b;                                               \
    }
#define NAS_CNTK_B Bundle<R, count>
NAS_CNTK_EACH(operator+(NAS_CNTK_B x, NAS_CNTK_B y), x.of[i] + y.of[i])
NAS_CNTK_EACH(operator-(NAS_CNTK_B x, NAS_CNTK_B y), x.of[i] - y.of[i])
NAS_CNTK_EACH(operator*(NAS_CNTK_B x, NAS_CNTK_B y), x.of[i] * y.of[i])
NAS_CNTK_EACH(fma(NAS_CNTK_B x, NAS_CNTK_B y, NAS_CNTK_B z), fma(x.of[i], y.of[i], z.of[i]))
NAS_CNTK_EACH(root(NAS_CNTK_B x), root(x.of[i]))
NAS_CNTK_EACH(magnitude(NAS_CNTK_B x), magnitude(x.of[i]))
NAS_CNTK_EACH(less(NAS_CNTK_B x, NAS_CNTK_B y, NAS_CNTK_B z), less(x.of[i], y.of[i], z.of[i]))
NAS_CNTK_EACH(above_or_zero(NAS_CNTK_B x, NAS_CNTK_B y), above_or_zero(x.of[i], y.of[i]))
NAS_CNTK_EACH(choose_negative(NAS_CNTK_B s, NAS_CNTK_B x, NAS_CNTK_B y), choose_negative(s.of[i], x.of[i], y.of[i]))
NAS_CNTK_EACH(greater(NAS_CNTK_B x, NAS_CNTK_B y), greater(x.of[i], y.of[i]))
#undef NAS_CNTK_B
#undef NAS_CNTK_EACH

}  // namespace
}  // namespace nas_cntk
