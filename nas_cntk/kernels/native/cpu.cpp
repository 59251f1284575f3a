// The CPU core: a program carried block by block through S and T for one image x and a cache line of images x' in the
// vector lanes. Compiled once an instruction set (NAS_CNTK_ISA names it); nothing here may come from the standard
// library's templates, whose copies the linker would share between the sets.
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
constexpr int vectors = lanes<R> / Vec<R>::width;  // native vectors in one bundle of lanes

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

    inline __attribute__((always_inline)) Vec<R> of_left(const R* p, int64_t index, int part) const {
        return itself ? Vec<R>::load(p + index * lanes<R> + part * Vec<R>::width) : Vec<R>::all(p[index]);
    }
};

template <class R>
inline __attribute__((always_inline)) Vec<R> get(const R* p, int64_t index, int part) {
    return Vec<R>::load(p + index * lanes<R> + part * Vec<R>::width);
}
template <class R>
inline __attribute__((always_inline)) void put(Vec<R> x, R* p, int64_t index, int part) {
    x.store(p + index * lanes<R> + part * Vec<R>::width);
}

// (1/C) sum over channels of x_c[i, j] x'_c[i', j'].
template <class R, bool itself>
void run_input(const Program& program, const Axis& rows, const Axis& columns, const Images<R, itself>& images, Field<R> out) {
    const Vec<R> scale = Vec<R>::all(R(1) / R(program.c));
    for (int32_t n = 0; n < rows.n; ++n) {
        for (int32_t m = 0; m < columns.n; ++m) {
            const int64_t left = (int64_t(rows.left[n]) * program.w + columns.left[m]) * program.c;
            const int64_t right = (int64_t(rows.right[n]) * program.w + columns.right[m]) * program.c;
            const int64_t at = int64_t(rows.out[n]) * columns.out_stride + columns.out[m];
            for (int part = 0; part < vectors<R>; ++part) {
                Vec<R> sum = Vec<R>::all(0);
                for (int32_t c = 0; c < program.c; ++c)
                    sum = fma(images.of_left(images.left, left + c, part), get(images.right, right + c, part), sum);
                put(sum * scale, out.s, at, part);
            }
        }
    }
}

// buffer[m] = sum over the rows of one run of in[row, used[m]]; `count` 0 means any number of rows.
template <class R, int count>
inline __attribute__((always_inline)) void add_rows(const R* in, const int32_t* list, int32_t n, const Axis& columns, int32_t stride,
                                                    R* buffer) {
    const int32_t length = count ? count : n;
    for (int32_t m = 0; m < columns.n_used; ++m) {
        const int64_t column = columns.used[m];
        for (int part = 0; part < vectors<R>; ++part) {
            Vec<R> sum = get(in, int64_t(list[0]) * stride + column, part);
            for (int32_t k = 1; k < length; ++k) sum = sum + get(in, int64_t(list[k]) * stride + column, part);
            put(sum, buffer, m, part);
        }
    }
}

// out[row, m] = weight times the sum over the columns of run m of the buffer, whose last column is zero.
template <class R, int count>
inline __attribute__((always_inline)) void add_columns(const R* buffer, const Axis& columns, double row_weight, R* out) {
    const int32_t length = count ? count : columns.width;
    for (int32_t m = 0; m < columns.n; ++m) {
        const int32_t* list = columns.list + int64_t(m) * length;
        const Vec<R> weight = Vec<R>::all(R(row_weight * columns.weight[m]));
        for (int part = 0; part < vectors<R>; ++part) {
            Vec<R> sum = get(buffer, list[0], part);
            for (int32_t k = 1; k < length; ++k) sum = sum + get(buffer, list[k], part);
            put(sum * weight, out, columns.out[m], part);
        }
    }
}

// One row of a separable window sum.
template <class R>
void linear_row(const R* in, int32_t stride, const int32_t* list, int32_t n, double weight, const Axis& columns, R* buffer, R* out) {
    switch (n) {
        case 1: add_rows<R, 1>(in, list, n, columns, stride, buffer); break;
        case 2: add_rows<R, 2>(in, list, n, columns, stride, buffer); break;
        case 3: add_rows<R, 3>(in, list, n, columns, stride, buffer); break;
        default: add_rows<R, 0>(in, list, n, columns, stride, buffer);
    }
    for (int part = 0; part < vectors<R>; ++part) put(Vec<R>::all(0), buffer, columns.n_used, part);
    switch (columns.width) {
        case 1: add_columns<R, 1>(buffer, columns, weight, out); break;
        case 2: add_columns<R, 2>(buffer, columns, weight, out); break;
        case 3: add_columns<R, 3>(buffer, columns, weight, out); break;
        default: add_columns<R, 0>(buffer, columns, weight, out);
    }
}

// A conv's window sum or one side of a pooling: weights are products of a row's and a column's.
template <class R>
void run_linear(const Axis& rows, const Axis& columns, int32_t flags, Field<R> in, Field<R> out, R* buffer) {
    const int32_t stride = columns.in_stride[0];
    for (int32_t n = 0; n < rows.n; ++n) {
        const int32_t* list = rows.list + rows.start[n];
        const int32_t length = rows.start[n + 1] - rows.start[n];
        const int64_t at = int64_t(rows.out[n]) * columns.out_stride * lanes<R>;
        linear_row(in.s, stride, list, length, rows.weight[n], columns, buffer, out.s + at);
        if (!(flags & tangent_out)) continue;
        if (flags & tangent_in) {
            linear_row(in.t, stride, list, length, rows.weight[n], columns, buffer, out.t + at);
            if (!(flags & add_s)) continue;
        }
        for (int32_t m = 0; m < columns.n; ++m)
            for (int part = 0; part < vectors<R>; ++part) {
                const Vec<R> s = get(out.s + at, columns.out[m], part);
                put(flags & tangent_in ? get(out.t + at, columns.out[m], part) + s : s, out.t + at, columns.out[m], part);
            }
    }
}

// sqrt(v v') k1(l) and k0(l) T, with l = S / sqrt(v v').
template <class R, bool itself, bool sign_known, bool tangent>
void run_relu(const Program& program, const Instruction& op, const Axis& rows, const Axis& columns, const Images<R, itself>& images,
              Field<R> in, Field<R> out) {
    const int64_t w1 = program.variance_w[op.u], w2 = program.variance_w[op.v];
    const int64_t area1 = w1 * program.variance_h[op.u], area2 = w2 * program.variance_h[op.v];
    const R* maps1 = images.left_maps + int64_t(program.variance_offset[op.u]) * (itself ? lanes<R> : 1);
    const R* maps2 = images.right_maps + int64_t(program.variance_offset[op.v]) * lanes<R>;
    for (int32_t n = 0; n < rows.n; ++n) {
        const int64_t row1 = rows.left[n] * w1, row2 = rows.right[n] * w2;
        const int64_t to = int64_t(rows.out[n]) * columns.out_stride;
        const int64_t from = op.n_in ? int64_t(rows.in[n]) * columns.in_stride[0] : 0;
        for (int32_t m = 0; m < columns.n; ++m) {
            const int64_t p1 = row1 + columns.left[m], p2 = row2 + columns.right[m];
            for (int part = 0; part < vectors<R>; ++part) {
                const Vec<R> root1 = images.of_left(maps1, p1, part), root2 = get(maps2, p2, part);
                Vec<R> k0, k1;
                if (op.n_in) {
                    const Vec<R> s = get(in.s, from + columns.in[m], part);
                    arc_cosine<sign_known>(s * images.of_left(maps1, area1 + p1, part) * get(maps2, area2 + p2, part), k0, k1);
                } else {  // independent inputs: a relu output still has a mean
                    arc_cosine<true>(Vec<R>::all(0), k0, k1);
                }
                put(k1 * root1 * root2, out.s, to + columns.out[m], part);
                if (tangent) put(k0 * get(in.t, from + columns.in[m], part), out.t, to + columns.out[m], part);
            }
        }
    }
}

template <class R, bool itself>
void dispatch_relu(const Program& program, const Instruction& op, const Axis& rows, const Axis& columns, const Images<R, itself>& images,
                   Field<R> in, Field<R> out) {
    const bool tangent = op.flags & tangent_out, sign_known = op.flags & nonnegative;
    if (sign_known && tangent) return run_relu<R, itself, true, true>(program, op, rows, columns, images, in, out);
    if (sign_known) return run_relu<R, itself, true, false>(program, op, rows, columns, images, in, out);
    if (tangent) return run_relu<R, itself, false, true>(program, op, rows, columns, images, in, out);
    run_relu<R, itself, false, false>(program, op, rows, columns, images, in, out);
}

template <class R>
void add_term(const Axis& rows, const Axis& columns, int32_t term, R coefficient, bool first, const R* in, R* out) {
    const int32_t* row_of = rows.in + int64_t(term) * rows.n;
    const int32_t* column_of = columns.in + int64_t(term) * columns.n;
    const Vec<R> c = Vec<R>::all(coefficient);
    for (int32_t n = 0; n < rows.n; ++n) {
        const int64_t from = int64_t(row_of[n]) * columns.in_stride[term];
        const int64_t to = int64_t(rows.out[n]) * columns.out_stride;
        for (int32_t m = 0; m < columns.n; ++m)
            for (int part = 0; part < vectors<R>; ++part) {
                const Vec<R> x = get(in, from + column_of[m], part) * c;
                put(first ? x : get(out, to + columns.out[m], part) + x, out, to + columns.out[m], part);
            }
    }
}

template <class R>
void run_head(const Axis& rows, const Axis& columns, double coefficient, const R* in, double* out) {
    for (int part = 0; part < vectors<R>; ++part) {
        Vec<R> total = Vec<R>::all(0);
        for (int32_t n = 0; n < rows.n; ++n) {
            const int64_t from = int64_t(rows.in[n]) * columns.in_stride[0];
            Vec<R> sum = Vec<R>::all(0);
            for (int32_t m = 0; m < columns.n; ++m)
                sum = fma(Vec<R>::all(R(columns.weight[m])), get(in, from + columns.in[m], part), sum);
            total = fma(Vec<R>::all(R(rows.weight[n])), sum, total);
        }
        for (int lane = 0; lane < Vec<R>::width; ++lane) out[part * Vec<R>::width + lane] += coefficient * double(total.v[lane]);
    }
}

// Writes sqrt(v) and 1/sqrt(v) (0 where v = 0) of the equal positions of a field of one value.
template <class R>
void run_variance(const Program& program, const Instruction& op, const Axis& rows, const Axis& columns, const R* in, R* maps) {
    const int64_t w = program.variance_w[op.u], area = w * program.variance_h[op.u];
    maps += int64_t(program.variance_offset[op.u]) * lanes<R>;
    const Vec<R> zero = Vec<R>::all(0), one = Vec<R>::all(1);
    for (int32_t n = 0; n < rows.n; ++n)
        for (int32_t m = 0; m < columns.n; ++m)
            for (int part = 0; part < vectors<R>; ++part) {
                const Vec<R> v = get(in, int64_t(rows.in[n]) * columns.in_stride[0] + columns.in[m], part);
                const Vec<R> s = root(greater(v, zero));
                const int64_t at = rows.left[n] * w + columns.left[m];
                put(s, maps, at, part);
                const Vec<R> safe = above(s, zero, s, one);
                put(above(s, zero, Vec<R>{one.v / safe.v}, zero), maps, area + at, part);
            }
}

// The whole program for one pair of images (times lanes). `out` is (readouts, 2, lanes).
template <class R, bool itself>
void run(const Program& program, const Images<R, itself>& images, R* maps, double* out, R* scratch) {
    const auto field = [&](Storage at) {
        const int64_t offset = at.global ? program.global_offset[at.slot] : program.slot_offset[at.slot];
        const int64_t size = at.global ? program.global_size[at.slot] : program.slot_size[at.slot];
        return Field<R>{scratch + offset * lanes<R>, scratch + (offset + size) * lanes<R>};
    };
    R* buffer = scratch + program.row_buffer * lanes<R>;
    for (int32_t l = 0; l < program.n_levels; ++l) {
        const Level& level = program.levels[l];
        for (int32_t r = 0; r < level.n_row_groups; ++r)
            for (int32_t c = 0; c < level.n_column_groups; ++c)
                for (int32_t i = 0; i < level.n_instructions; ++i) {
                    const Instruction& op = level.instructions[i];
                    const Axis &rows = op.rows[r], &columns = op.columns[c];
                    if (rows.n == 0 || columns.n == 0) continue;
                    const Field<R> in = op.n_in ? field(op.in[0]) : Field<R>{nullptr, nullptr};
                    switch (op.kind) {
                        case input_kind: run_input(program, rows, columns, images, field(op.out)); break;
                        case linear_kind: run_linear(rows, columns, op.flags, in, field(op.out), buffer); break;
                        case relu_kind: dispatch_relu(program, op, rows, columns, images, in, field(op.out)); break;
                        case sum_kind: {
                            const Field<R> to = field(op.out);
                            bool first_tangent = true;
                            for (int32_t k = 0; k < op.n_in; ++k) {
                                const Field<R> term = field(op.in[k]);
                                add_term(rows, columns, k, R(op.coefficient[k]), k == 0, term.s, to.s);
                                if (!(op.flags & tangent_out) || !op.in_flags[k]) continue;
                                add_term(rows, columns, k, R(op.coefficient[k]), first_tangent, term.t, to.t);
                                first_tangent = false;
                            }
                            break;
                        }
                        case head_kind:
                            run_head(rows, columns, op.coefficient[0], in.s, out + int64_t(op.u) * 2 * lanes<R>);
                            if (op.flags & tangent_in)
                                run_head(rows, columns, op.coefficient[0], in.t, out + (int64_t(op.u) * 2 + 1) * lanes<R>);
                            break;
                        case variance_kind: run_variance(program, op, rows, columns, in.s, maps); break;
                    }
                }
    }
}

template <class R>
void variances(const Program& program, const R* images, int64_t first, int64_t last, R* maps, R* scratch) {
    const int64_t size = int64_t(program.h) * program.w * program.c * lanes<R>;
    for (int64_t g = first; g < last; ++g) {
        R* own = maps + g * program.map_size * lanes<R>;
        const R* x = images + g * size;
        run<R, true>(program, Images<R, true>{x, own, x, own}, own, nullptr, scratch);
    }
}

template <class R>
void tile(const Program& program, const R* x1, const R* maps1, int64_t row_first, int64_t row_last, const R* x2, const R* maps2,
          int64_t first, int64_t last, double* out, R* scratch) {
    const int64_t size = int64_t(program.h) * program.w * program.c;
    const int64_t rows = row_last - row_first, columns = (last - first) * lanes<R>;
    double sums[2 * 64 * lanes<R>];  // readouts are taken 64 at most: nas_cntk/kernels/plan.py splits larger families
    for (int64_t g = first; g < last; ++g)
        for (int64_t r = row_first; r < row_last; ++r) {
            for (int32_t k = 0; k < 2 * program.n_readouts * lanes<R>; ++k) sums[k] = 0;
            const Images<R, false> images{x1 + r * size, maps1 + r * program.map_size, x2 + g * size * lanes<R>,
                                          maps2 + g * program.map_size * lanes<R>};
            run<R, false>(program, images, nullptr, sums, scratch);
            for (int32_t k = 0; k < 2 * program.n_readouts; ++k)
                for (int lane = 0; lane < lanes<R>; ++lane)
                    out[(k * rows + (r - row_first)) * columns + (g - first) * lanes<R> + lane] = sums[k * lanes<R> + lane];
        }
}

}  // namespace

extern const InstructionSet NAS_CNTK_JOIN(set_, NAS_CNTK_ISA);
const InstructionSet NAS_CNTK_JOIN(set_, NAS_CNTK_ISA) = {
    NAS_CNTK_TEXT(NAS_CNTK_ISA), {variances<float>, tile<float>}, {variances<double>, tile<double>}};

}  // namespace nas_cntk
