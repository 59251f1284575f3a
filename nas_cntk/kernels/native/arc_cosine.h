// The rectifier on covariances: the arc-cosine functions times c_sigma = 2 (Arora et al. 2019, equations 19 and 20),
//
//     k0(l) = (pi - arccos l) / pi            k1(l) = (l (pi - arccos l) + sqrt(1 - l^2)) / pi,
//
// with l = S / sqrt(v v'): the covariance becomes sqrt(v v') k1(l), the tangent k0(l) T. One square root is enough. On
// l in [0, 1], with u = sqrt(1 - l),
//
//     k0(l) = 1 - u p(u^2),    k1(l) = l + u^3 q(u^2),    p = arccos(l) / (pi u),    q = (k1(l) - l) / u^3,
//
// and p and q are analytic there (their nearest singularity is u^2 = 2), so short polynomials do: degrees 5 and 4 in
// float32 (greatest errors of u p and u^3 q: 2e-7 and 7e-8, one or two units in the last place of 1), 18 and 17 in
// float64 (below 1e-17). For l < 0, k0(l) = 1 - k0(-l) and k1(l) = k1(-l) + l. So
//
//     S' = max(S, 0) + sqrt(v v') u^3 q            T' = T - T u p, or T u p where S < 0.
//
// k0 has a square root at |l| = 1 and loses half its digits there, so where |l| > 1 - 4 eps, u is taken as 0: then S' is S
// itself, to the last bit. An image compared with itself, or two equal patches, therefore keep S equal to v through any
// number of layers, and l stays within 3 eps of 1. (1 - l is one fused operation, exact up to the rounding of l.)
// Where v or v' is 0 the caller passes inverse 0 and root 0: S is 0 there, and so are S' and T'.
//
// Included by the C++ core and, read whole, by the CUDA core: no host headers. `Vec` is a vector of floats or doubles
// with + - *, `fma(a, b, c)`, `less(a, b, c)` (c - a b, fused), `root(a)`, `magnitude(a)`, `above_or_zero(a, b)` (a where
// a > b, else 0), `choose_negative(s, x, y)` (x where s < 0, else y), `greater(a, b)` (the maximum), `Vec::all(x)` and
// `Vec::Real`, its element.
#pragma once

namespace nas_cntk {

// Polynomials at namespace scope, since CUDA knows no data member in device memory.
#ifndef NAS_CNTK_CONSTANT
#define NAS_CNTK_CONSTANT static constexpr
#endif
NAS_CNTK_CONSTANT float p_single[6] = {0.45015565375500611271f, 0.037578527671443818316f, 0.0079594652833705211615f,
    0.0039928170845527733902f, -0.0012484730582828519225f, 0.0015618056574166480225f};
NAS_CNTK_CONSTANT float q_single[5] = {0.30011367415476381056f, 0.014914545407086798431f, 0.0027502330812505504252f,
    0.000011591485090320031332f, 0.00051976844677811134611f};
NAS_CNTK_CONSTANT double p_real[19] = {0.45015815807855319117, 0.037513179839840136284, 0.0084404654668856092379,
    0.0025120431915495506214, 0.0008547945255945826177, 0.00031469343017389023569, 0.00012227726248084654215,
    0.000047727836972047224125, 0.00002665844277497870708, -0.000013301830747775610826, 0.000061214954553183894167,
    -0.00011435858961814311901, 0.00017994630406042200912, -0.00021055023478926564313, 0.00018590404145866544829,
    -0.00011886752729408157325, 0.000052470424187029721497, -0.000014314068348471497116, 1.8584517135994179374e-6};
NAS_CNTK_CONSTANT double q_real[18] = {0.30010543871903521179, 0.015005271935988958802, 0.0024115615589425197066,
    0.00055823190212111060719, 0.0001554158971316296811, 0.000048427591142460090981, 0.000016209599637053146943,
    6.0993248008994667226e-6, 9.4963330323744789308e-7, 4.1280870580779196637e-6, -6.6891493761905601029e-6,
    0.000011432993787985952189, -0.000013753494658678466789, 0.000012599886017635699881, -8.2966297476586865764e-6,
    3.7751290369061787262e-6, -1.0591664611496387385e-6, 1.4236603066196460829e-7};

template <class Real>
struct ArcCosine;

template <>
struct ArcCosine<float> {
    static constexpr float edge = 4.0f * 1.1920929e-07f;
    NAS_CNTK_INLINE const float (&p())[6] { return p_single; }
    NAS_CNTK_INLINE const float (&q())[5] { return q_single; }
};

template <>
struct ArcCosine<double> {
    static constexpr double edge = 4.0 * 2.220446049250313e-16;
    NAS_CNTK_INLINE const double (&p())[19] { return p_real; }
    NAS_CNTK_INLINE const double (&q())[18] { return q_real; }
};

// By Horner's scheme: with two vectors in flight it beat Estrin's (28 cycles for 16 entries against 31, on a Zen 3).
template <class Vec, class Real, int count>
NAS_CNTK_INLINE Vec polynomial(const Real (&c)[count], Vec x) {
    Vec sum = Vec::all(c[count - 1]);
#ifdef __CUDACC__
#pragma unroll
#else
#pragma GCC unroll 32
#endif
    for (int i = count - 2; i >= 0; --i) sum = fma(sum, x, Vec::all(c[i]));
    return sum;
}

// u^2 = 1 - |l|, or 0 at the edge. `inverse1`, `inverse2` are 1/sqrt(v) and 1/sqrt(v'); where `nonnegative`, every S is known
// to be >= 0 (after the first relu of a chain).
template <bool nonnegative, class Vec>
NAS_CNTK_INLINE Vec relu_distance(Vec s, Vec inverse1, Vec inverse2) {
    using Real = typename Vec::Real;
    const Vec size = nonnegative ? s : magnitude(s);
    return above_or_zero(less(size * inverse1, inverse2, Vec::all(Real(1))), Vec::all(ArcCosine<Real>::edge));
}

// Takes S and T through a relu, given u^2 and u; `root1`, `root2` are sqrt(v) and sqrt(v').
template <bool nonnegative, bool tangent, class Vec>
NAS_CNTK_INLINE void relu_moments(Vec& s, Vec& t, Vec u2, Vec u, Vec root1, Vec root2) {
    using Real = typename Vec::Real;
    using C = ArcCosine<Real>;
    if (tangent) {
        const Vec fall = t * u;
        const Vec p = polynomial<Vec>(C::p(), u2);
        t = nonnegative ? less(fall, p, t) : choose_negative(s, fall * p, less(fall, p, t));
    }
    const Vec base = nonnegative ? s : greater(s, Vec::all(Real(0)));
    s = fma(u2 * u * (root1 * root2), polynomial<Vec>(C::q(), u2), base);
}

template <bool nonnegative, bool tangent, class Vec>
NAS_CNTK_INLINE void relu(Vec& s, Vec& t, Vec inverse1, Vec inverse2, Vec root1, Vec root2) {
    const Vec u2 = relu_distance<nonnegative>(s, inverse1, inverse2);
    relu_moments<nonnegative, tangent>(s, t, u2, root(u2), root1, root2);
}

}  // namespace nas_cntk
