// The rectifier's arc-cosine functions, times c_sigma = 2 (Arora et al. 2019, equations 19 and 20):
//
//     k0(l) = (pi - arccos l) / pi            k1(l) = (l (pi - arccos l) + sqrt(1 - l^2)) / pi
//
// One square root is enough. On [0, 1], with u = sqrt(1 - l),
//
//     k0(l) = 1 - u p(l),    k1(l) = l + u^3 q(l),    p(l) = arccos(l) / (pi u),    q(l) = (k1(l) - l) / u^3,
//
// and p and q are analytic there (their nearest singularity is l = -1), so short polynomials do: degrees 6 and 5 in
// float32 (greatest errors of u p and u^3 q: 2.8e-8 and 8.3e-9), 18 and 17 in float64 (below 1e-17). For l < 0,
// k0(l) = 1 - k0(-l) and k1(l) = k1(-l) + l.
//
// k0 has a square root at |l| = 1 and loses half its digits there, so where |l| > 1 - 4 eps it is taken as 1 exactly.
// 1 - l is exact for l >= 1/2 (Sterbenz), so nothing else is lost.
//
// Included by the C++ core and, read whole, by the CUDA core: no host headers. `Vec` is a vector of floats or doubles
// with + - *, `fma(a, b, c)`, `root(a)`, `magnitude(a)`, `with_sign(a, s)`, `above(a, b, x, y)` (a > b ? x : y, by lane),
// `greater(a, b)` (the maximum) and `Vec::all(x)`; `Scalar<Vec>::type` is its element.
#pragma once

namespace nas_cntk {

template <class Real>
struct ArcCosine;

template <>
struct ArcCosine<float> {
    static constexpr float edge = 1.0f - 4.0f * 1.1920929e-07f;
    static constexpr float p[] = {0.49999997189814826f,  -0.068306454303761236f, 0.028277178037741936f,
                                  -0.015659157386920892f, 0.0088351465097485407f, -0.0038185990005681875f,
                                  0.00083047157688465929f};
    static constexpr float q[] = {0.3183098779133197f,    -0.022534219152188631f, 0.0059689185767115183f,
                                  -0.0023541539039905970f, 0.00093551904456652222f, -0.00022188189982082769f};
};

template <>
struct ArcCosine<double> {
    static constexpr double edge = 1.0 - 4.0 * 2.220446049250313e-16;
    static constexpr double p[] = {0.49999999999999999569, -0.068309886183787264929, 0.028345056907658511462,
                                   -0.016167854993062602545, 0.010721086083841430617, -0.0077585832153858859423,
                                   0.0059435158560124423584, -0.004738010302980289678, 0.0038865021524398388755,
                                   -0.003246384661605671486, 0.002718406155352301472, -0.0022202453819275281528,
                                   0.0016963507970434721755, -0.0011501851372477792315, 0.00065263780114460927861,
                                   -0.0002904425626033953998, 0.000093474374443725214939, -0.000019138062496318025756,
                                   1.8584517135994179374e-6};
    static constexpr double q[] = {0.3183098861837906711, -0.022535170724313657843, 0.0059859796864601069531,
                                   -0.0024647093329648668674, 0.001269165695228400823, -0.00074813410480725072458,
                                   0.00048260969338854889003, -0.00033192649408828477398, 0.00023923018923508369555,
                                   -0.00017792289407888886852, 0.00013362619971317640797, -0.000097742967659452971388,
                                   0.000066013466769850965677, -0.000038533553157240928234, 0.000018039231318113279333,
                                   -6.1902458285391456373e-6, 1.3610560601037596024e-6, -1.4236603066196460829e-7};
};

template <class Vec, class Real, int count>
NAS_CNTK_INLINE Vec polynomial(const Real (&c)[count], Vec x) {
    // Estrin's scheme: neighbours are joined in pairs, so that the chain of dependent operations is log2(n) long.
    // Horner's n-long chain, at four cycles a link, leaves the multipliers idle half of the time.
    Vec term[(count + 1) / 2];
    const Vec last = Vec::all(c[count - 1]);
#pragma GCC unroll 32
    for (int i = 0; i < count / 2; ++i) term[i] = fma(Vec::all(c[2 * i + 1]), x, Vec::all(c[2 * i]));
    if (count % 2) term[count / 2] = last;
    Vec power = x * x;
#pragma GCC unroll 8
    for (int n = (count + 1) / 2; n > 1; n = (n + 1) / 2) {
#pragma GCC unroll 32
        for (int i = 0; i < n / 2; ++i) term[i] = fma(term[2 * i + 1], power, term[2 * i]);
        if (n % 2) term[n / 2] = term[n - 1];
        if (n > 2) power = power * power;
    }
    return term[0];
}

// k0 and k1 of correlations l; where `nonnegative`, every l is known to be >= 0 (after the first relu of a chain).
template <bool nonnegative, class Vec>
NAS_CNTK_INLINE void arc_cosine(Vec l, Vec& k0, Vec& k1) {
    using Real = typename Vec::Real;
    using C = ArcCosine<Real>;
    const Vec one = Vec::all(Real(1));
    Vec size = nonnegative ? l : magnitude(l);
    size = above(size, Vec::all(C::edge), one, size);
    const Vec u2 = one - size;
    const Vec u = root(u2);
    const Vec tail = u * polynomial<Vec>(C::p, size);
    const Vec rise = (u2 * u) * polynomial<Vec>(C::q, size);
    if (nonnegative) {
        k0 = one - tail;
        k1 = size + rise;
    } else {
        const Vec half = Vec::all(Real(0.5));
        k0 = half + with_sign(half - tail, l);
        k1 = greater(with_sign(size, l), Vec::all(Real(0))) + rise;
    }
}

}  // namespace nas_cntk
