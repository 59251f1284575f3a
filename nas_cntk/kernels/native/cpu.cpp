// The CPU core: a program carried block by block through S and T for two images x and a cache line of images x' in the
// vector lanes. Compiled once an instruction set (NAS_CNTK_ISA names it); nothing here may come from the standard
// library's templates, whose copies the linker would share between the sets.
//
// What was tried, as cycles for 16 entries through one 3x3 conv and relu (float32, global pooling, 8x8; marginal cost of
// a layer on a Zen 3 core at 3.15 GHz, AVX2, other work on the machine):
//   relu, row sums and column sums as three passes, every value stored three times a layer            98
//   relu and row sums in one pass                                                                     80
//   constants broadcast by one instruction (GCC made five of `V{} + x`)                               62
//   S' = S + sqrt(v v') u^3 q in place of sqrt(v v') k1, windows sliding along rows and columns        54
//   arrays not a multiple of 4 KiB apart (one L1 set held S, T and both maps); two images x together   50
//   both vectors of a cache line in one loop, four chains of operations in flight                     49
//   the left image's maps scaled once an image and not once a block                                   45
//   one row's chains and no more, its sums along columns stored, two rows summed in a pass of their own  42 (38 at 16x16)
//   planes of offsets d and d - 8 carried as one, which breaks where the second begins                  38
//   relus alone in the first pass; the second slides along both axes, two rows and one vector at a time   36 (34 at 16x16)
// Estrin's scheme for the polynomials (31 against 28 in a loop of its own), beginning the next column's square root early
// (more spills than it hid), sums along the rows made when the next layer loads them (31 against 30 in a loop of its own)
// and with the ring merged into the relu's loop (36), the break between two planes as a mask of all bits instead of a
// branch (43 against 39), bundles of 8 lanes instead of 16 (50,000 against 59,000 pairs a second of NAS-Bench-201 cells)
// and additions of the second pass as fused ones with 1, to use all four pipes (37 against 36), were slower.
//
// What bounds it: 17 multiplications or fused ones a vector (5 + 4 of the polynomials, 8 others) and a square root that
// blocks a multiplier for about 2.4 of them: 19.4 cycles for two vectors on two pipes. The AVX2 loop of relus has 55
// instructions for 16 entries (counted from the disassembly; four chains with the sums had 101, one with those along the
// columns 69) and takes half of the time at 16x16, 18 to 19 cycles: it is at its bound. What a core keeps in flight
// decides how near: 256 instructions, four columns of 55, cover the 80 cycles that one column takes. The window sums have
// 29 instructions for 16 entries of S and T and take about 6 cycles; the rest is the beginning and end of short rows, the
// input's dot products, the first conv and the last relu. At 32x32 a plane of S and T is 128 KiB and lives in L2, and the
// right images' maps of ten layers, 1.3 MB, in L3: 40.
//
// With AVX-512 (Sapphire Rapids, 2.5 GHz, two multipliers of 16 lanes) 16 entries take 23 to 27 cycles at 8x8, where 17
// multiplications would take 9: the square root of 16 lanes keeps the divider for some 12 (it blocks no multiplier), the
// relus take 13 and are bound by it. The root as an estimate of 14 bits and one step of Newton (27 operations a vector
// instead of 20, no divider) took 15. Other work on the host moves these figures, and the bound, by half.
//
// Networks with poolings inside (NAS-Bench-201 cells): a field at 8x8 is 4,096 lines, 512 KiB of S and T, as large as an L2
// cache. Half of their time went into one-sided window sums and sums of fields, 15 to 20 cycles for 16 entries of S and T;
// carrying one left image instead of two through them gave 13 %. Windows that slide along both axes, with other fields
// added as they are made, and 1x1 convs without the tables gave another 10 % (a 1x1 layer 34 cycles instead of 42). What is
// left of the window sums, some 20 cycles, is the way from L3 and back: a field read and one written are 1 MiB.
#include "program.h"
#include "simd.h"

#include "arc_cosine.h"

#define NAS_CNTK_JOIN2(a, b) a##b
#define NAS_CNTK_JOIN(a, b) NAS_CNTK_JOIN2(a, b)
#define NAS_CNTK_TEXT2(a) #a
#define NAS_CNTK_TEXT(a) NAS_CNTK_TEXT2(a)

namespace nas_cntk {
namespace {

template <class R>
constexpr int lanes = cache_line / sizeof(R);
template <class R>
using Lanes = Bundle<R, lanes<R> / Vec<R>::width>;

// S and T of one field, as rows x columns x lanes.
template <class R>
struct Field {
    R* s;
    R* t;
};

// Where the two images of a pair are read. The left one is one image, each value the same in all lanes; or, when every
// image meets itself to get its variances, a bundle of lanes as the right one is.
template <class R, bool itself>
struct Images {
    const R* left;
    const R* left_maps;
    const R* right;
    const R* right_maps;

    inline __attribute__((always_inline)) Lanes<R> of_left(const R* p, int64_t index, R factor = R(1)) const {
        return itself ? Lanes<R>::load(p + index * lanes<R>) * Lanes<R>::all(factor) : Lanes<R>::all(p[index]);
    }
};

template <class R>
inline __attribute__((always_inline)) Lanes<R> get(const R* p, int64_t index) {
    return Lanes<R>::load(p + index * lanes<R>);
}
template <class R>
inline __attribute__((always_inline)) void put(Lanes<R> x, R* p, int64_t index) {
    x.store(p + index * lanes<R>);
}

// (1/C) sum over channels of x_c[i, j] x'_c[i', j'].
template <class R, bool itself>
void run_input(const Program& program, const Axis& rows, const Axis& columns, const Images<R, itself>& images, Field<R> out) {
    const auto scale = Lanes<R>::all(R(1) / R(program.c));
    for (int32_t n = 0; n < rows.n; ++n)
        for (int32_t m = 0; m < columns.n; ++m) {
            const int64_t left = (int64_t(rows.left[n]) * program.w + columns.left[m]) * program.c;
            const int64_t right = (int64_t(rows.right[n]) * program.w + columns.right[m]) * program.c;
            auto sum = Lanes<R>::all(0);
            for (int32_t c = 0; c < program.c; ++c) sum = fma(images.of_left(images.left, left + c), get(images.right, right + c), sum);
            put(sum * scale, out.s, int64_t(rows.out[n]) * columns.out_stride + columns.out[m]);
        }
}

// Indices of an axis are in ascending order: they are neighbours if the last is as far from the first as there are more.
inline __attribute__((always_inline)) bool neighbours(const int32_t* indices, int32_t n) { return indices[n - 1] - indices[0] == n - 1; }

// buffer[m] = sum over the rows of one run of in[row, used[m]], of S and then, behind it, of T where `fields` is 2; `count`
// 0 means any number of rows.
template <class R, int fields, int count>
inline __attribute__((always_inline)) void add_rows(Field<R> in, const int32_t* list, int32_t n, const Axis& columns, R* buffer) {
    const int32_t length = count ? count : n;
    const int64_t stride = columns.in_stride[0];
    const auto add = [&](int32_t m, int64_t column) __attribute__((always_inline)) {
        const int64_t first = list[0] * stride + column;
        auto s = get(in.s, first), t = fields == 2 ? get(in.t, first) : s;
        for (int32_t k = 1; k < length; ++k) {
            const int64_t at = list[k] * stride + column;
            s = s + get(in.s, at);
            if (fields == 2) t = t + get(in.t, at);
        }
        put(s, buffer, m);
        if (fields == 2) put(t, buffer, columns.n_used + 1 + m);
    };
    if (neighbours(columns.used, columns.n_used))
        for (int32_t m = 0; m < columns.n_used; ++m) add(m, columns.used[0] + m);
    else
        for (int32_t m = 0; m < columns.n_used; ++m) add(m, columns.used[m]);
}

// One output row: weight times the sums over the columns of each run of the buffer, whose last column is zero.
template <class R, int fields, int count>
inline __attribute__((always_inline)) void add_columns(const R* buffer, const Axis& columns, double row_weight, int32_t flags, int64_t to,
                                                       Field<R> out) {
    const int32_t length = count ? count : columns.width;
    const R* const buffer_t = buffer + (columns.n_used + 1) * lanes<R>;
    for (int32_t m = 0; m < columns.n; ++m) {
        const int32_t* list = columns.list + int64_t(m) * length;
        auto s = get(buffer, list[0]), t = fields == 2 ? get(buffer_t, list[0]) : s;
        for (int32_t k = 1; k < length; ++k) {
            s = s + get(buffer, list[k]);
            if (fields == 2) t = t + get(buffer_t, list[k]);
        }
        const auto weight = Lanes<R>::all(R(row_weight * columns.weight[m]));
        s = s * weight;
        put(s, out.s, to + columns.out[m]);
        if (!(flags & tangent_out)) continue;
        if (fields == 2)
            put(flags & add_s ? fma(t, weight, s) : t * weight, out.t, to + columns.out[m]);
        else
            put(s, out.t, to + columns.out[m]);
    }
}

// A conv's window sum or one side of a pooling: weights are products of a row's and a column's.
template <class R, int fields>
void run_linear(const Axis& rows, const Axis& columns, int32_t flags, Field<R> in, Field<R> out, R* buffer) {
    for (int field = 0; field < fields; ++field) put(Lanes<R>::all(0), buffer, columns.n_used + field * (columns.n_used + 1));
    for (int32_t n = 0; n < rows.n; ++n) {
        const int32_t* list = rows.list + rows.start[n];
        const int32_t length = rows.start[n + 1] - rows.start[n];
        switch (length) {
            case 1: add_rows<R, fields, 1>(in, list, length, columns, buffer); break;
            case 2: add_rows<R, fields, 2>(in, list, length, columns, buffer); break;
            case 3: add_rows<R, fields, 3>(in, list, length, columns, buffer); break;
            default: add_rows<R, fields, 0>(in, list, length, columns, buffer);
        }
        const int64_t to = int64_t(rows.out[n]) * columns.out_stride;
        switch (columns.width) {
            case 1: add_columns<R, fields, 1>(buffer, columns, rows.weight[n], flags, to, out); break;
            case 2: add_columns<R, fields, 2>(buffer, columns, rows.weight[n], flags, to, out); break;
            case 3: add_columns<R, fields, 3>(buffer, columns, rows.weight[n], flags, to, out); break;
            default: add_columns<R, fields, 0>(buffer, columns, rows.weight[n], flags, to, out);
        }
    }
}

template <int n>
struct Count {
    static constexpr int value = n;
};

// Window sums of three neighbours along rows and columns, two rows and one vector at a time, those along the columns sliding
// in registers; up to two other fields, each times its coefficient, added to them. `window`: the input has a tangent; `count`
// rows; a row above or below that is none is read as row n and multiplied by 0.
template <class R, int terms, bool window, bool tangent, bool add>
struct Windows {
    using V = Vec<R>;
    template <int count>
    struct Rows {
        V s[count], t[window ? count : 1];
    };

    const Instruction& op;
    const Axis &rows, &columns;
    Field<R> in, out;
    const Field<R>* added;
    R* weight;  // of every column

    void run() const {
        for (int32_t m = 0; m < columns.n; ++m) weight[m] = R(columns.weight[m] * op.coefficient[0]);
        for (int32_t k = 0; k < rows.n_segments; ++k)
            for (int32_t n = rows.segments[k]; n < rows.segments[k + 1]; n += 2)
                for (int32_t l = 0; l < columns.n_segments; ++l)
                    if (n + 1 < rows.segments[k + 1])
                        pair<2>(n, rows.segments[k], rows.segments[k + 1], columns.segments[l], columns.segments[l + 1]);
                    else
                        pair<1>(n, rows.segments[k], rows.segments[k + 1], columns.segments[l], columns.segments[l + 1]);
    }

    template <int count>
    inline __attribute__((always_inline)) void pair(int32_t n, int32_t top, int32_t bottom, int32_t first, int32_t last) const {
        const int64_t stride = columns.in_stride[0] * int64_t(lanes<R>), out_stride = columns.out_stride * int64_t(lanes<R>);
        const bool above = n > top, below = n + count < bottom;
        const int64_t from[4] = {rows.in[above ? n - 1 : n] * stride, rows.in[n] * stride, rows.in[n + count - 1] * stride,
                                 rows.in[below ? n + count : n] * stride};
        int64_t to[count], from_added[terms ? terms * count : 1];
        V of_row[count];
        for (int g = 0; g < count; ++g) {
            to[g] = rows.out[n + g] * out_stride;
            of_row[g] = V::all(R(rows.weight[n + g]));
            for (int k = 0; k < terms; ++k)
                from_added[k * count + g] = rows.added[int64_t(k) * rows.n + n + g] * int64_t(columns.in_stride[k + 1]) * lanes<R>;
        }
        const V with_above = V::all(R(above)), with_below = V::all(R(below));
        V coefficient[terms ? terms : 1], coefficient_t[terms ? terms : 1];
        for (int k = 0; k < terms; ++k) {
            coefficient[k] = V::all(R(op.coefficient[k + 1]));
            coefficient_t[k] = V::all(op.in_flags[k + 1] ? R(op.coefficient[k + 1]) : R(0));
        }
        const auto along_rows = [&](int64_t i) __attribute__((always_inline)) {
            Rows<count> x;
            const auto sum = [&](const R* p, V* of) __attribute__((always_inline)) {
                const auto at = [&](int k) __attribute__((always_inline)) { return V::load(p + from[k] + i); };
                if (count == 2) {
                    const V middle = at(1) + at(2);
                    of[0] = fma(at(0), with_above, middle);
                    of[count - 1] = fma(at(3), with_below, middle);
                } else {
                    of[0] = fma(at(3), with_below, fma(at(0), with_above, at(1)));
                }
            };
            sum(in.s, x.s);
            if (window) sum(in.t, x.t);
            return x;
        };
        const auto plus = [](const Rows<count>& x, const Rows<count>& y) __attribute__((always_inline)) {
            Rows<count> sum;
            for (int g = 0; g < count; ++g) {
                sum.s[g] = x.s[g] + y.s[g];
                if (window) sum.t[g] = x.t[g] + y.t[g];
            }
            return sum;
        };
        for (int64_t j = 0; j < lanes<R>; j += V::width) {
            const auto give = [&](const Rows<count>& x, int32_t m) __attribute__((always_inline)) {
                const int64_t column = columns.out[m] * int64_t(lanes<R>) + j;
                const V of_column = V::all(weight[m]);
                for (int g = 0; g < count; ++g) {
                    const V w = of_row[g] * of_column;
                    V s = x.s[g] * w, t = s;
                    if (tangent && !add) t = window ? x.t[window ? g : 0] * w : V::all(0);
                    if (add && window) t = fma(x.t[window ? g : 0], w, s);
                    for (int k = 0; k < terms; ++k) {
                        const int64_t at = from_added[k * count + g] + columns.added[int64_t(k) * columns.n + m] * int64_t(lanes<R>) + j;
                        s = fma(V::load(added[k].s + at), coefficient[k], s);
                        if (tangent) t = fma(V::load((op.in_flags[k + 1] ? added[k].t : added[k].s) + at), coefficient_t[k], t);
                    }
                    s.store(out.s + to[g] + column);
                    if (tangent) t.store(out.t + to[g] + column);
                }
            };
            Rows<count> before = along_rows(columns.in[first] * int64_t(lanes<R>) + j), two = before;
            for (int32_t m = first + 1; m < last; ++m) {
                const Rows<count> x = along_rows(columns.in[m] * int64_t(lanes<R>) + j);
                give(plus(two, x), m - 1);
                two = plus(before, x);
                before = x;
            }
            give(two, last - 1);
        }
    }
};

template <class R, int terms>
__attribute__((noinline)) void run_windows(const Instruction& op, const Axis& rows, const Axis& columns, Field<R> in, const Field<R>* added, Field<R> out, R* buffer) {
    const bool window = op.flags & tangent_in, tangent = op.flags & tangent_out;
    const auto with = [&](auto w, auto t, auto a) {
        Windows<R, terms, bool(w.value), bool(t.value), bool(a.value)>{op, rows, columns, in, out, added, buffer}.run();
    };
    if (!tangent) return with(Count<0>{}, Count<0>{}, Count<0>{});
    if constexpr (terms == 0)
        if (op.flags & add_s) return window ? with(Count<1>{}, Count<1>{}, Count<1>{}) : with(Count<0>{}, Count<1>{}, Count<1>{});
    window ? with(Count<1>{}, Count<1>{}, Count<0>{}) : with(Count<0>{}, Count<1>{}, Count<0>{});
}

// The variance maps that one relu reads: sqrt(v) and 1/sqrt(v) of its left and right input. Those of a left image come
// with the scale of the relu's input multiplied in; an image with itself has them as they are.
template <class R, bool itself>
struct Maps {
    const R *root1, *inverse1, *root2, *inverse2;
    int64_t step1, w2;  // from one row to the next

    Maps(const Program& program, const Instruction& op, const Images<R, itself>& images)
        : step1(itself ? program.variance_w[op.u] : program.left_step[op.u]), w2(program.variance_w[op.v]) {
        const int64_t area1 = step1 * program.variance_h[op.u], area2 = w2 * program.variance_h[op.v];
        root1 = images.left_maps + (itself ? int64_t(program.variance_offset[op.u]) * lanes<R> : int64_t(op.left_offset));
        inverse1 = root1 + (itself ? apart(area1) * lanes<R> : area1);
        root2 = images.right_maps + int64_t(program.variance_offset[op.v]) * lanes<R>;
        inverse2 = root2 + apart(area2) * lanes<R>;
    }
};

// Takes one entry of S and T (in `s`, `t`) through a relu, S being `scale` times the covariance.
template <class R, bool itself, bool sign_known, bool tangent>
inline __attribute__((always_inline)) void relu_at(const Images<R, itself>& images, const Maps<R, itself>& maps, R scale, int64_t p1,
                                                   int64_t p2, Lanes<R>& s, Lanes<R>& t) {
    relu<sign_known, tangent>(s, t, images.of_left(maps.inverse1, p1, R(1) / scale), get(maps.inverse2, p2),
                              images.of_left(maps.root1, p1, scale), get(maps.root2, p2));
}

template <class R, bool itself, bool sign_known, bool tangent>
void run_relu(const Program& program, const Instruction& op, const Axis& rows, const Axis& columns, const Images<R, itself>& images,
              Field<R> in, Field<R> out) {
    const Maps<R, itself> maps(program, op, images);
    const R scale = op.n_in ? R(op.coefficient[0]) : R(1);
    for (int32_t n = 0; n < rows.n; ++n) {
        const int64_t row1 = rows.left[n] * maps.step1, row2 = rows.right[n] * maps.w2;
        const int64_t to = int64_t(rows.out[n]) * columns.out_stride;
        const int64_t from = op.n_in ? int64_t(rows.in[n]) * columns.in_stride[0] : 0;
        for (int32_t m = 0; m < columns.n; ++m) {
            // Without an input the two are independent, and S is 0; a relu output still has a mean.
            auto s = op.n_in ? get(in.s, from + columns.in[m]) : Lanes<R>::all(0);
            auto t = tangent ? get(in.t, from + columns.in[m]) : s;
            relu_at<R, itself, sign_known, tangent>(images, maps, scale, row1 + columns.left[m], row2 + columns.right[m], s, t);
            put(s, out.s, to + columns.out[m]);
            if (tangent) put(t, out.t, to + columns.out[m]);
        }
    }
}

// The same where every correlation is +1 or -1: k1 and k0 are 1 and 1, or 0 and 0.
template <class R>
void run_aligned(const Axis& rows, const Axis& columns, int32_t flags, Field<R> in, Field<R> out) {
    const auto zero = Lanes<R>::all(0);
    for (int32_t n = 0; n < rows.n; ++n)
        for (int32_t m = 0; m < columns.n; ++m) {
            const int64_t from = int64_t(rows.in[n]) * columns.in_stride[0] + columns.in[m];
            const int64_t to = int64_t(rows.out[n]) * columns.out_stride + columns.out[m];
            const auto s = get(in.s, from);
            put(greater(s, zero), out.s, to);
            if (flags & tangent_out) put(choose_negative(s, zero, get(in.t, from)), out.t, to);
        }
}

template <class R, bool itself>
void dispatch_relu(const Program& program, const Instruction& op, const Axis& rows, const Axis& columns, const Images<R, itself>& images,
                   Field<R> in, Field<R> out) {
    const bool tangent = op.flags & tangent_out, sign_known = op.flags & nonnegative;
    if (op.flags & aligned) return run_aligned(rows, columns, op.flags, in, out);
    if (sign_known && tangent) return run_relu<R, itself, true, true>(program, op, rows, columns, images, in, out);
    if (sign_known) return run_relu<R, itself, true, false>(program, op, rows, columns, images, in, out);
    if (tangent) return run_relu<R, itself, false, true>(program, op, rows, columns, images, in, out);
    run_relu<R, itself, false, false>(program, op, rows, columns, images, in, out);
}

// A rectangle of a layer's entries whose windows are three neighbours along rows and columns: where its first entry is
// read and written, and the steps from one row to the next.
template <class R>
struct Rectangle {
    int32_t rows, columns;
    R scale;
    const R *s_in, *t_in, *inverse1, *root1, *inverse2, *root2;
    R *s_out, *t_out;
    int64_t in_step, left_step, right_step, out_step;
    // Of two runs side by side, where the second begins, or beyond the end; the left image's rows begin anew there.
    int32_t second_row, second_column;
    int64_t left_back;
};

// What the heads that read a layer's relu have summed up so far, S and T of each, in one block.
template <class R>
struct Heads {
    const Instruction& op;
    const Axis &rows, &columns;
    Lanes<R> sums[2 * most_readouts];

    Heads(const Instruction& instruction, const Axis& of_rows, const Axis& of_columns)
        : op(instruction), rows(of_rows), columns(of_columns) {}

    static const R* weights(const Axis& axis) {
        if constexpr (sizeof(R) == sizeof(double))
            return axis.head_weight;
        else
            return axis.head_weight_single;
    }
    bool reads(int32_t k) const { return rows.head_here[k] && columns.head_here[k]; }
    bool any() const {
        for (int32_t k = 0; k < op.n_heads; ++k)
            if (reads(k)) return true;
        return false;
    }
    void clear() {
        for (int32_t k = 0; k < 2 * op.n_heads; ++k) sums[k] = Lanes<R>::all(0);
    }
    // Adds `length` relu values of row n, from column m on.
    template <bool tangent>
    void add(int32_t n, int32_t m, int32_t length, const R* s, const R* t) {
        for (int32_t k = 0; k < op.n_heads; ++k) {
            const R of_row = weights(rows)[int64_t(k) * rows.n_relu + n];
            if (!reads(k) || of_row == 0) continue;
            const R* const of_column = weights(columns) + int64_t(k) * columns.n_relu + m;
            auto sum_s = Lanes<R>::all(0), sum_t = sum_s;
            for (int32_t i = 0; i < length; ++i) {
                const auto weight = Lanes<R>::all(of_column[i]);
                sum_s = fma(get(s, i), weight, sum_s);
                if (tangent) sum_t = fma(get(t, i), weight, sum_t);
            }
            const auto weight = Lanes<R>::all(of_row);
            sums[2 * k] = fma(sum_s, weight, sums[2 * k]);
            if (tangent) sums[2 * k + 1] = fma(sum_t, weight, sums[2 * k + 1]);
        }
    }
    void give(bool tangent, double* out) const {
        for (int32_t k = 0; k < op.n_heads; ++k) {
            if (!reads(k)) continue;
            for (int field = 0; field < (tangent ? 2 : 1); ++field) {
                R total[lanes<R>];
                sums[2 * k + field].store(total);
                double* const to = out + (int64_t(op.heads[k]) * 2 + field) * lanes<R>;
                for (int lane = 0; lane < lanes<R>; ++lane) to[lane] += op.head_coefficient[k] * double(total[lane]);
            }
        }
    }
};

// Relu values of row n, into `s_row` and `t_row`.
template <class R, bool itself, bool sign_known, bool tangent>
inline __attribute__((always_inline)) void relu_row(const Rectangle<R>& of, int32_t n, R* s_row, R* t_row) {
    const R *const s_in = of.s_in + n * of.in_step, *const t_in = of.t_in + n * of.in_step;
    const int64_t left_row = n * of.left_step - (n >= of.second_row ? of.left_back : 0);
    const R *const inverse1 = of.inverse1 + left_row, *const root1 = of.root1 + left_row;
    const R *const inverse2 = of.inverse2 + n * of.right_step, *const root2 = of.root2 + n * of.right_step;
    const auto left_of = [](const R* p, int64_t m, R factor) __attribute__((always_inline)) {
        return itself ? get(p, m) * Lanes<R>::all(factor) : Lanes<R>::all(p[m]);
    };
    const int64_t columns = of.columns;
    for (int64_t m = 0; m < columns; ++m) {
        auto s = get(s_in, m), t = tangent ? get(t_in, m) : s;
        relu<sign_known, tangent>(s, t, left_of(inverse1, m, R(1) / of.scale), get(inverse2, m), left_of(root1, m, of.scale), get(root2, m));
        put(s, s_row, m);
        if (tangent) put(t, t_row, m);
    }
}

// `count` (1 or 2) output rows: window sums of three neighbours among 1 + `count` + 1 rows of relu values, those along the
// columns sliding in registers.
template <class R, bool tangent, bool add, int count>
inline __attribute__((always_inline)) void sum_windows(const Rectangle<R>& of, int32_t n, const R* const* s_rows, const R* const* t_rows) {
    using V = Vec<R>;
    struct Rows {
        V s[count], t[count];
    };
    R *const s_out = of.s_out + n * of.out_step, *const t_out = of.t_out + n * of.out_step;
    const int64_t step = of.out_step, end = of.columns * lanes<R>, second = of.second_column * int64_t(lanes<R>);
    const auto along_rows = [&](int64_t i) __attribute__((always_inline)) {
        Rows x;
        const auto sum = [&](const R* const* rows, V* to) __attribute__((always_inline)) {
            const auto at = [&](int k) __attribute__((always_inline)) { return V::load(rows[k] + i); };
            const V middle = at(1) + at(2);
            to[0] = at(0) + middle;
            if (count == 2) to[count - 1] = middle + at(3);
        };
        sum(s_rows, x.s);
        if (!tangent) return x;
        sum(t_rows, x.t);
        for (int g = 0; g < count && add; ++g) x.t[g] = x.t[g] + x.s[g];
        return x;
    };
    const auto give = [&](const Rows& x, int64_t i) __attribute__((always_inline)) {
        for (int g = 0; g < count; ++g) {
            x.s[g].store(s_out + g * step + i);
            if (tangent) x.t[g].store(t_out + g * step + i);
        }
    };
    const auto plus = [](const Rows& x, const Rows& y) __attribute__((always_inline)) {
        Rows sum;
        for (int g = 0; g < count; ++g) {
            sum.s[g] = x.s[g] + y.s[g];
            if (tangent) sum.t[g] = x.t[g] + y.t[g];
        }
        return sum;
    };
    for (int64_t j = 0; j < lanes<R>; j += V::width) {
        Rows last = along_rows(j), two = last;
        for (int64_t i = j + lanes<R>; i < end; i += lanes<R>) {
            const Rows x = along_rows(i);
            if (i - j == second) {
                give(two, i - lanes<R>);
                two = last = x;
                continue;
            }
            give(plus(two, x), i - lanes<R>);
            two = plus(last, x);
            last = x;
        }
        give(two, end - lanes<R> + j);
    }
}

// The relu values of four rows are kept; two output rows are made of them at a time, when the next two rows of the input
// are read: so the output may take the input's place. `row0`, `column0` are the rectangle's first for the heads.
template <class R, bool itself, bool sign_known, bool tangent, bool add>
__attribute__((noinline)) void slide(const Rectangle<R>& of, int32_t row0, int32_t column0, Heads<R>* read_by, R* buffer) {
    const int64_t row = apart(of.columns) * lanes<R>;
    R *s[5], *t[5];
    for (int k = 0; k < 5; ++k) {
        s[k] = buffer + 2 * k * row;
        t[k] = s[k] + row;
    }
    for (int64_t m = 0; m < of.columns; ++m) {
        put(Lanes<R>::all(0), s[4], m);
        if (tangent) put(Lanes<R>::all(0), t[4], m);
    }
    const auto take = [&](int32_t n, int k) __attribute__((always_inline)) {
        relu_row<R, itself, sign_known, tangent>(of, n, s[k], t[k]);
        if (read_by) read_by->template add<tangent>(row0 + n, column0, of.columns, s[k], t[k]);
    };
    const auto give = [&](auto count, int32_t n, int above, int k, int below) __attribute__((always_inline)) {
        const R* const s_rows[] = {s[above], s[k], s[count.value == 2 ? k + 1 : below], s[below]};
        const R* const t_rows[] = {t[above], t[k], t[count.value == 2 ? k + 1 : below], t[below]};
        sum_windows<R, tangent, add, count.value>(of, n, s_rows, t_rows);
    };
    take(0, 1);
    for (int32_t n = 0; n < of.rows; n += 2) {
        const int32_t left = of.rows - n - 1;  // rows that are not yet read
        if (left >= 1) take(n + 1, 2);
        if (left >= 2) take(n + 2, 3);
        const int above = n == 0 || n == of.second_row ? 4 : 0;
        if (left == 0) {
            give(Count<1>{}, n, above, 1, 4);
        } else if (n + 1 == of.second_row) {
            give(Count<1>{}, n, above, 1, 4);
            give(Count<1>{}, n + 1, 4, 2, left >= 2 ? 3 : 4);
        } else {
            give(Count<2>{}, n, above, 1, left >= 2 && n + 2 != of.second_row ? 3 : 4);
        }
        for (int k = 0; k < 2; ++k) {
            R *const s_old = s[k], *const t_old = t[k];
            s[k] = s[k + 2];
            t[k] = t[k + 2];
            s[k + 2] = s_old;
            t[k + 2] = t_old;
        }
    }
}

// A layer whose windows slide along rows and columns: runs of neighbouring rows by runs of neighbouring columns.
template <class R, bool itself, bool sign_known, bool tangent>
void run_sliding(const Program& program, const Instruction& op, const Axis& rows, const Axis& columns, const Images<R, itself>& images,
                 Field<R> in, Field<R> out, Heads<R>* read_by, R* buffer) {
    const Maps<R, itself> maps(program, op, images);
    constexpr int64_t left_lanes = itself ? lanes<R> : 1;
    Rectangle<R> of;
    of.scale = R(op.coefficient[0]);
    of.in_step = int64_t(columns.in_stride[0]) * lanes<R>;
    of.left_step = maps.step1 * left_lanes;
    of.right_step = maps.w2 * lanes<R>;
    of.out_step = int64_t(columns.out_stride) * lanes<R>;
    const bool two_runs = !itself && columns.second;
    const bool two_row_runs = !itself && rows.second;
    of.second_column = two_runs ? columns.second : columns.n;
    of.second_row = two_row_runs ? rows.second : rows.n;
    of.left_back = int64_t(program.variance_h[op.u]) * of.left_step;
    for (int32_t k = 0; k < (two_row_runs ? 1 : rows.n_segments); ++k)
        for (int32_t l = 0; l < (two_runs ? 1 : columns.n_segments); ++l) {
            const int32_t n = rows.segments[k], m = columns.segments[l];
            of.rows = two_row_runs ? rows.n : rows.segments[k + 1] - n;
            of.columns = two_runs ? columns.n : columns.segments[l + 1] - m;
            const int64_t from = rows.in[n] * of.in_step + columns.in[m] * lanes<R>;
            const int64_t left = rows.left[n] * of.left_step + columns.left[m] * left_lanes;
            const int64_t right = rows.right[n] * of.right_step + columns.right[m] * lanes<R>;
            const int64_t to = rows.out[n] * of.out_step + columns.out[m] * lanes<R>;
            of.s_in = in.s + from;
            of.t_in = in.t + from;
            of.inverse1 = maps.inverse1 + left;
            of.root1 = maps.root1 + left;
            of.inverse2 = maps.inverse2 + right;
            of.root2 = maps.root2 + right;
            of.s_out = out.s + to;
            of.t_out = out.t + to;
            if (op.flags & add_s)
                slide<R, itself, sign_known, tangent, true>(of, n, m, read_by, buffer);
            else
                slide<R, itself, sign_known, tangent, false>(of, n, m, read_by, buffer);
        }
}

// Relu values of one row of a layer, and their sums along the columns by the table.
template <class R, bool itself, bool sign_known, bool tangent>
void gather_row(const Axis& rows, const Axis& columns, const Images<R, itself>& images, const Maps<R, itself>& maps, R scale,
                Field<R> in, int32_t n, R* row, R* sums_s, R* sums_t) {
    const int32_t n_relu = columns.n_relu;
    R* row_t = row + (n_relu + 1) * lanes<R>;
    const int64_t row1 = rows.left[n] * maps.step1, row2 = rows.right[n] * maps.w2;
    const int64_t from = int64_t(rows.in[n]) * columns.in_stride[0], to = int64_t(n) * columns.n;
    for (int32_t m = 0; m < n_relu; ++m) {
        auto s = get(in.s, from + columns.in[m]), t = tangent ? get(in.t, from + columns.in[m]) : s;
        relu_at<R, itself, sign_known, tangent>(images, maps, scale, row1 + columns.left[m], row2 + columns.right[m], s, t);
        put(s, row, m);
        if (tangent) put(t, row_t, m);
    }
    put(Lanes<R>::all(0), row, n_relu);
    if (tangent) put(Lanes<R>::all(0), row_t, n_relu);
    for (int32_t m = 0; m < columns.n; ++m) {
        const int32_t* list = columns.list + int64_t(m) * columns.width;
        auto s = get(row, list[0]);
        for (int32_t k = 1; k < columns.width; ++k) s = s + get(row, list[k]);
        put(s, sums_s, to + m);
        if (!tangent) continue;
        auto t = get(row_t, list[0]);
        for (int32_t k = 1; k < columns.width; ++k) t = t + get(row_t, list[k]);
        put(t, sums_t, to + m);
    }
}

// One output row of a layer: the sum over `count` rows (0: any number) of the sums along columns.
template <class R, bool tangent, int count>
inline __attribute__((always_inline)) void sum_rows(const int32_t* list, int32_t n_list, int64_t stride, int32_t flags, const Axis& rows,
                                                    const Axis& columns, int32_t n, const R* sums_s, const R* sums_t, Field<R> out) {
    const int32_t length = count ? count : n_list;
    const auto weight = Lanes<R>::all(R(rows.weight[0] * columns.weight[0]));
    const int64_t first = list[0] * stride, to = int64_t(rows.out[n]) * columns.out_stride;
    int64_t further[count ? count : 1];
    if (count)
        for (int k = 1; k < count; ++k) further[k] = list[k] * stride;
    const auto sum = [&](const R* p, int32_t m) __attribute__((always_inline)) {
        auto x = get(p, first + m);
        for (int32_t k = 1; k < length; ++k) x = x + get(p, (count ? further[k] : list[k] * stride) + m);
        return x;
    };
    for (int32_t m = 0; m < columns.n; ++m) {
        const auto s = sum(sums_s, m) * weight;
        put(s, out.s, to + columns.out[m]);
        if (!(flags & tangent_out)) continue;
        if (tangent) {
            const auto t = sum(sums_t, m);
            put(flags & add_s ? fma(t, weight, s) : t * weight, out.t, to + columns.out[m]);
        } else {
            put(s, out.t, to + columns.out[m]);
        }
    }
}

// A relu and the conv and heads that alone read it. The sums along the columns of all rows lie in `buffer`, are then summed
// along the rows and stored once; the input is no longer needed by then, so the output may take its place.
template <class R, bool itself, bool sign_known, bool tangent>
void run_layer(const Program& program, const Instruction& op, const Axis& rows, const Axis& columns, const Images<R, itself>& images,
               Field<R> in, Field<R> out, double* readouts, R* buffer) {
    Heads<R> heads(op, rows, columns);
    const bool read = heads.any(), convolved = !(op.flags & no_output);
    if (read) heads.clear();
    if (convolved && rows.n_segments && columns.n_segments && tangent == bool(op.flags & tangent_out)) {
        run_sliding<R, itself, sign_known, tangent>(program, op, rows, columns, images, in, out, read ? &heads : nullptr, buffer);
        if (read) heads.give(tangent, readouts);
        return;
    }
    if (!convolved && !read) return;
    const Maps<R, itself> maps(program, op, images);
    if (convolved && !read && rows.pointwise && columns.pointwise && tangent == bool(op.flags & tangent_out)) {
        const bool add = op.flags & add_s;
        for (int32_t n = 0; n < rows.n; ++n) {
            const int64_t row1 = rows.left[n] * maps.step1, row2 = rows.right[n] * maps.w2;
            const int64_t from = int64_t(rows.in[n]) * columns.in_stride[0], to = int64_t(rows.out[n]) * columns.out_stride;
            for (int32_t m = 0; m < columns.n; ++m) {
                auto s = get(in.s, from + columns.in[m]), t = tangent ? get(in.t, from + columns.in[m]) : s;
                relu_at<R, itself, sign_known, tangent>(images, maps, R(op.coefficient[0]), row1 + columns.left[m],
                                                        row2 + columns.right[m], s, t);
                put(s, out.s, to + columns.out[m]);
                if (tangent) put(add ? t + s : t, out.t, to + columns.out[m]);
            }
        }
        return;
    }
    const int64_t stride = columns.n;
    R* sums_s = buffer + lanes<R> * 2 * (columns.n_relu + 1);
    R* sums_t = sums_s + lanes<R> * rows.n_relu * stride;
    int32_t n = 0;
    for (; n < rows.n_relu; ++n) {
        gather_row<R, itself, sign_known, tangent>(rows, columns, images, maps, R(op.coefficient[0]), in, n, buffer, sums_s, sums_t);
        if (read) heads.template add<tangent>(n, 0, columns.n_relu, buffer, buffer + (columns.n_relu + 1) * lanes<R>);
    }
    if (read) heads.give(tangent, readouts);
    if (columns.n == 0) return;
    for (n = 0; n < rows.n; ++n) {
        const int32_t length = rows.start[n + 1] - rows.start[n];
        const int32_t* list = rows.list + rows.start[n];
        switch (length) {
            case 1: sum_rows<R, tangent, 1>(list, length, stride, op.flags, rows, columns, n, sums_s, sums_t, out); break;
            case 2: sum_rows<R, tangent, 2>(list, length, stride, op.flags, rows, columns, n, sums_s, sums_t, out); break;
            case 3: sum_rows<R, tangent, 3>(list, length, stride, op.flags, rows, columns, n, sums_s, sums_t, out); break;
            default: sum_rows<R, tangent, 0>(list, length, stride, op.flags, rows, columns, n, sums_s, sums_t, out);
        }
    }
}

template <class R, bool itself>
void dispatch_layer(const Program& program, const Instruction& op, const Axis& rows, const Axis& columns, const Images<R, itself>& images,
                    Field<R> in, Field<R> out, double* readouts, R* buffer) {
    const bool tangent = op.flags & tangent_in, sign_known = op.flags & nonnegative;
    if (sign_known && tangent) return run_layer<R, itself, true, true>(program, op, rows, columns, images, in, out, readouts, buffer);
    if (sign_known) return run_layer<R, itself, true, false>(program, op, rows, columns, images, in, out, readouts, buffer);
    if (tangent) return run_layer<R, itself, false, true>(program, op, rows, columns, images, in, out, readouts, buffer);
    run_layer<R, itself, false, false>(program, op, rows, columns, images, in, out, readouts, buffer);
}

// out = (or +=, but for the first) the sum of up to four terms, each times its coefficient; what is not there has a null
// pointer.
template <class R>
void add_terms(const Instruction& op, const Axis& rows, const Axis& columns, const int32_t* number, const R* const* terms, bool first,
               R* out) {
    constexpr int most = 4;  // their pointers and their sum stay in registers
    const int32_t* column[most];
    Vec<R> coefficient[most];
    bool whole = neighbours(columns.out, columns.n);
    for (int c = 0; c < most && terms[c]; ++c) {
        column[c] = columns.in + int64_t(number[c]) * columns.n;
        coefficient[c] = Vec<R>::all(R(op.coefficient[number[c]]));
        whole = whole && neighbours(column[c], columns.n);
    }
    for (int32_t n = 0; n < rows.n; ++n) {
        R* const to = out + int64_t(rows.out[n]) * columns.out_stride * lanes<R>;
        const R* from[most];
        for (int c = 0; c < most && terms[c]; ++c)
            from[c] = terms[c] + int64_t(rows.in[int64_t(number[c]) * rows.n + n]) * columns.in_stride[number[c]] * lanes<R>;
        const auto add = [&](int32_t m, auto index) __attribute__((always_inline)) {
            R* const target = to + index(columns.out, m) * lanes<R>;
            for (int j = 0; j < lanes<R>; j += Vec<R>::width) {
                auto sum = Vec<R>::load(from[0] + index(column[0], m) * lanes<R> + j) * coefficient[0];
                if (terms[1]) sum = fma(Vec<R>::load(from[1] + index(column[1], m) * lanes<R> + j), coefficient[1], sum);
                if (terms[2]) sum = fma(Vec<R>::load(from[2] + index(column[2], m) * lanes<R> + j), coefficient[2], sum);
                if (terms[3]) sum = fma(Vec<R>::load(from[3] + index(column[3], m) * lanes<R> + j), coefficient[3], sum);
                (first ? sum : sum + Vec<R>::load(target + j)).store(target + j);
            }
        };
        if (whole)
            for (int32_t m = 0; m < columns.n; ++m) add(m, [](const int32_t* list, int32_t k) __attribute__((always_inline)) { return int64_t(list[0]) + k; });
        else
            for (int32_t m = 0; m < columns.n; ++m) add(m, [](const int32_t* list, int32_t k) __attribute__((always_inline)) { return int64_t(list[k]); });
    }
}

template <class R>
void run_head(const Axis& rows, const Axis& columns, double coefficient, const R* in, double* out) {
    auto total = Lanes<R>::all(0);
    for (int32_t n = 0; n < rows.n; ++n) {
        const int64_t from = int64_t(rows.in[n]) * columns.in_stride[0];
        auto sum = Lanes<R>::all(0);
        for (int32_t m = 0; m < columns.n; ++m) sum = fma(Lanes<R>::all(R(columns.weight[m])), get(in, from + columns.in[m]), sum);
        total = fma(Lanes<R>::all(R(rows.weight[n])), sum, total);
    }
    for (int lane = 0; lane < lanes<R>; ++lane)
        out[lane] += coefficient * double(total.of[lane / Vec<R>::width].v[lane % Vec<R>::width]);
}

// Writes sqrt(v) and 1/sqrt(v) (0 where v = 0) of the equal positions of a field of one value.
template <class R>
void run_variance(const Program& program, const Instruction& op, const Axis& rows, const Axis& columns, const R* in, R* maps) {
    const int64_t w = program.variance_w[op.u], area = apart(w * program.variance_h[op.u]);
    maps += int64_t(program.variance_offset[op.u]) * lanes<R>;
    const auto zero = Vec<R>::all(0), one = Vec<R>::all(1);
    for (int32_t n = 0; n < rows.n; ++n)
        for (int32_t m = 0; m < columns.n; ++m) {
            const auto v = get(in, int64_t(rows.in[n]) * columns.in_stride[0] + columns.in[m]) * Lanes<R>::all(R(op.coefficient[0]));
            const auto s = root(greater(v, Lanes<R>::all(0)));
            auto inverse = s;
            for (Vec<R>& x : inverse.of) x = Vec<R>{x.v > zero.v ? one.v / x.v : zero.v};
            const int64_t at = rows.left[n] * w + columns.left[m];
            put(s, maps, at);
            put(inverse, maps, area + at);
        }
}

// One instruction in one block, for one pair of images (times lanes). `out` is (readouts, 2, lanes).
template <class R, bool itself>
inline void execute(const Program& program, const Instruction& op, const Axis& rows, const Axis& columns, const Images<R, itself>& images,
                    R* maps, double* out, R* scratch, R* buffer) {
    const auto field = [&](Storage at) {
        const int64_t offset = at.global ? program.global_offset[at.slot] : program.slot_offset[at.slot];
        const int64_t size = at.global ? program.global_size[at.slot] : program.slot_size[at.slot];
        return Field<R>{scratch + offset * lanes<R>, scratch + (offset + size) * lanes<R>};
    };
    const Field<R> in = op.n_in ? field(op.in[0]) : Field<R>{nullptr, nullptr};
    switch (op.kind) {
        case input_kind: return run_input(program, rows, columns, images, field(op.out));
        case linear_kind:
            if (rows.n_segments && columns.n_segments) {
                if (op.n_in == 1) return run_windows<R, 0>(op, rows, columns, in, nullptr, field(op.out), buffer);
                const Field<R> added[] = {field(op.in[1]), field(op.in[op.n_in - 1])};
                if (op.n_in == 2) return run_windows<R, 1>(op, rows, columns, in, added, field(op.out), buffer);
                return run_windows<R, 2>(op, rows, columns, in, added, field(op.out), buffer);
            }
            if (op.flags & tangent_in) return run_linear<R, 2>(rows, columns, op.flags, in, field(op.out), buffer);
            return run_linear<R, 1>(rows, columns, op.flags, in, field(op.out), buffer);
        case relu_kind: return dispatch_relu(program, op, rows, columns, images, in, field(op.out));
        case layer_kind: 
            return dispatch_layer(program, op, rows, columns, images, in, op.flags & no_output ? in : field(op.out), out, buffer);
        case sum_kind:
            for (int pass = 0; pass < 2; ++pass) {
                const bool tangents = pass == 1;
                if (tangents && !(op.flags & tangent_out)) break;
                bool first = true;
                for (int32_t k = 0; k < op.n_in;) {
                    int32_t number[4], count = 0;
                    const R* terms[4] = {};
                    for (; k < op.n_in && count < 4; ++k) {
                        if (tangents && !op.in_flags[k]) continue;
                        number[count] = k;
                        const Field<R> term = field(op.in[k]);
                        terms[count++] = tangents ? term.t : term.s;
                    }
                    if (count == 0) break;
                    const Field<R> to = field(op.out);
                    add_terms(op, rows, columns, number, terms, first, tangents ? to.t : to.s);
                    first = false;
                }
            }
            return;
        case head_kind:
            run_head(rows, columns, op.head_coefficient[0], in.s, out + int64_t(op.heads[0]) * 2 * lanes<R>);
            if (op.flags & tangent_in)
                run_head(rows, columns, op.head_coefficient[0], in.t, out + (int64_t(op.heads[0]) * 2 + 1) * lanes<R>);
            return;
        case variance_kind: return run_variance(program, op, rows, columns, in.s, maps);
    }
}

// The whole program for `count` left images with the same right ones: what is read of those stays in L1 between them.
template <class R, bool itself>
void run(const Program& program, const Images<R, itself>* images, int count, R* maps, double* out, R* scratch) {
    const int64_t fields = program.row_buffer * lanes<R>;  // the buffer comes behind the fields of all left images
    R* const buffer = scratch + together * fields;
    for (int32_t l = 0; l < program.n_levels; ++l) {
        const Level& level = program.levels[l];
        for (int32_t r = 0; r < level.n_row_groups; ++r)
            for (int32_t c = 0; c < level.n_column_groups; ++c)
                for (int32_t i = 0; i < level.n_instructions; ++i) {
                    const Instruction& op = level.instructions[i];
                    const Axis &rows = op.rows[r], &columns = op.columns[c];
                    const bool layer = op.kind == layer_kind;
                    if ((layer ? rows.n_relu : rows.n) == 0 || (layer ? columns.n_relu : columns.n) == 0) continue;
                    for (int k = 0; k < count; ++k)
                        execute<R, itself>(program, op, rows, columns, images[k], maps, out + int64_t(k) * 2 * program.n_readouts * lanes<R>,
                                           scratch + k * fields, buffer);
                }
    }
}

template <class R>
void variances(const Program& program, const R* images, int64_t first, int64_t last, R* maps, R* scratch) {
    const int64_t size = int64_t(program.h) * program.w * program.c * lanes<R>;
    for (int64_t g = first; g < last; ++g) {
        R* own = maps + g * program.map_size * lanes<R>;
        const R* x = images + g * size;
        const Images<R, true> itself{x, own, x, own};
        run<R, true>(program, &itself, 1, own, nullptr, scratch);
    }
}

template <class R>
void tile(const Program& program, const R* x1, const R* maps1, int64_t row_first, int64_t row_last, const R* x2, const R* maps2,
          int64_t first, int64_t last, double* out, R* scratch) {
    const int64_t size = int64_t(program.h) * program.w * program.c;
    const int64_t rows = row_last - row_first, columns = (last - first) * lanes<R>;
    const int64_t sums_of_one = 2 * int64_t(program.n_readouts) * lanes<R>;
    double sums[together * 2 * most_readouts * lanes<R>];
    // Fields that fill an L2 cache by themselves gain nothing from sharing the right images' maps, and lose their place.
    const int64_t at_once = program.row_buffer * cache_line > (int64_t(1) << 18) ? 1 : together;
    for (int64_t g = first; g < last; ++g)
        for (int64_t r = row_first; r < row_last; r += at_once) {
            const int count = int(row_last - r < at_once ? row_last - r : at_once);
            Images<R, false> images[together];
            for (int k = 0; k < count; ++k)
                images[k] = {x1 + (r + k) * size, maps1 + (r + k) * program.left_size, x2 + g * size * lanes<R>,
                             maps2 + g * program.map_size * lanes<R>};
            for (int64_t k = 0; k < count * sums_of_one; ++k) sums[k] = 0;
            run<R, false>(program, images, count, nullptr, sums, scratch);
            for (int k = 0; k < count; ++k)
                for (int64_t i = 0; i < 2 * program.n_readouts; ++i)
                    for (int lane = 0; lane < lanes<R>; ++lane)
                        out[(i * rows + (r + k - row_first)) * columns + (g - first) * lanes<R> + lane] =
                            sums[k * sums_of_one + i * lanes<R> + lane];
        }
}

float burn(int64_t rounds) {
    constexpr int chains = 12;
    Vec<float> x[chains];
    for (int i = 0; i < chains; ++i) x[i] = Vec<float>::all(float(i));
    Vec<float> a = Vec<float>::all(0.999f), b = Vec<float>::all(0.001f);
    for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
        for (int i = 0; i < chains; ++i) x[i] = fma(x[i], a, b);
    }
    float sum = 0;
    for (int i = 0; i < chains; ++i) sum += x[i].v[0];
    return sum;
}

}  // namespace

extern const InstructionSet NAS_CNTK_JOIN(set_, NAS_CNTK_ISA);
const InstructionSet NAS_CNTK_JOIN(set_, NAS_CNTK_ISA) = {
    NAS_CNTK_TEXT(NAS_CNTK_ISA), Vec<float>::width, burn, {variances<float>, tile<float>}, {variances<double>, tile<double>}};

}  // namespace nas_cntk
