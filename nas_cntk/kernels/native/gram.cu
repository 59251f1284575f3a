// The CUDA core: kernels of pairs of images, one warp carrying whole planes of one offset through a whole stretch of layers.
//
// A field is S and T over (i, j, i', j'). Offsets are taken modulo the map's size, so that a map of height x width has
// height * width planes of exactly height x width entries: plane (di, dj) holds every (i, j) with i' = (i + di) mod height
// and j' = (j + dj) mod width. Convs of stride 1 keep to a plane: their windows run along i and j until i or i' leaves the
// map, where the link between two neighbours is cut. Relus, sums and heads keep to one entry.
//
//   a thread   keeps a tile of tile_h x tile_w entries of S and T in registers,
//   a group    of down x across threads of one warp a plane (at 32x32 the warp is one group, at 8x8 it is four to sixteen),
//   a block    one pair of images, or several; its groups take planes in turn, and nothing is shared between them but the
//              sheets: so there is no barrier and no exchange but shuffles between the first layer and the last.
//
// A sheet is what a pair needs of one image and one layer: sqrt of the variance at every position (and the channels of the
// image itself, for the first layer). One value and not sqrt and inverse: g = sqrt(v) sqrt(v') and one reciprocal on the
// special function unit, idle otherwise, make half the shared memory traffic and twice the depth that fits. For the left
// image they lie as tiles are read, in 16 byte words; for the right image, of which a tile is read from any offset on, column
// j of tile_w neighbours is word j / tile_w of part j % tile_w of a row, and rows are spaced so that the 32 lanes of a warp
// meet 32 banks whatever the offset; tile_h - 1 rows are repeated below, so that no row of a tile wraps.
//
// What cannot travel alone (poolings, strides, relus of maps of two sizes) is computed field by field in global memory by the
// kernels `field_...` below, and a stretch loads from and stores to there.
//
// Counted, not timed: no GPU was at hand. 32x32, 3x3, float32, sm_90; instructions an entry-layer, and wavefronts of shared
// memory and shuffles for 32 of them, of which a multiprocessor serves one a cycle while it issues four instructions.
//   a row a warp, a column a lane: four shuffles an entry, sqrt and inverse     about 37 (by hand)      8
//   the same, sqrt alone and a reciprocal                                       about 37 (by hand)      6
//   a tile of 8 x 4 a thread; shuffles whose warp might have parted             about 41                3.5
//   the warp kept together by `uniform`; addresses one a column, not one an entry   36.5                3.5
//   1 - l in one fused operation, no guard against v = 0                        34.5                    3.5
//   relu and conv one operation of the list                                     33.8                    3.5
// Of these: relu 22.1, windows 9.5, T += S 1.0, fetching the operation 1.2. At 3e13 float32 lanes a second (an H200) the
// bound is 8.9e11 entry-layers/s. 128 registers: 16 warps a multiprocessor; what spills (28 words) is not in these.
// The list of operations is interpreted: one switch for all entries of a tile, where specialised text would be compiled anew
// for every architecture (seconds each, and a search proposes thousands).
//
// Read whole by NVRTC, compiled by nvcc and, with tests/native/cuda_host.cpp, by a C++ compiler for the CPU. Macros:
//   NAS_CNTK_REAL                     float or double
//   NAS_CNTK_TILE_H, NAS_CNTK_TILE_W  the tile of a thread: the `stretch` kernels; without them, the others
//   NAS_CNTK_MODE                     0, 1, 2: only `stretch`, `stretch_staged`, `stretch_itself`
//   NAS_CNTK_HEIGHT, NAS_CNTK_WIDTH   of the map; 0: read from the plan
//   NAS_CNTK_PITCH                    of a right sheet; 0: read from the plan
//   NAS_CNTK_TANGENT                  1: S and T, 0: S alone
//   NAS_CNTK_SLOTS                    planes a thread can keep aside (residual nets)
//   NAS_CNTK_THREADS                  most threads of a block
#ifndef NAS_CNTK_REAL
#define NAS_CNTK_REAL float
#endif
#ifndef NAS_CNTK_HEIGHT
#define NAS_CNTK_HEIGHT 0
#endif
#ifndef NAS_CNTK_WIDTH
#define NAS_CNTK_WIDTH 0
#endif
#ifndef NAS_CNTK_PITCH
#define NAS_CNTK_PITCH 0
#endif
#ifndef NAS_CNTK_TANGENT
#define NAS_CNTK_TANGENT 1
#endif
#ifndef NAS_CNTK_SLOTS
#define NAS_CNTK_SLOTS 0
#endif
#ifndef NAS_CNTK_THREADS
#define NAS_CNTK_THREADS 512
#endif

#ifndef NAS_CNTK_HOST
#pragma nv_diag_suppress 177  // one of two types is never used
#define NAS_CNTK_INLINE static __device__ __forceinline__
#define NAS_CNTK_MEMBER __device__ __forceinline__
#define NAS_CNTK_CONSTANT static __device__ constexpr
#define NAS_CNTK_KERNEL extern "C" __global__
#define NAS_CNTK_BOUNDS __launch_bounds__(NAS_CNTK_THREADS)
#endif

#include "arc_cosine.h"

namespace nas_cntk {

typedef NAS_CNTK_REAL real;
typedef long long int64;

// One value, as arc_cosine.h wants its vectors.
struct One {
    using Real = real;
    real v;
    NAS_CNTK_INLINE One all(real x) { return {x}; }
};

#ifndef NAS_CNTK_HOST
// The shared memory of a block, of which every launch says how much there is.
NAS_CNTK_INLINE double* shared_room() {
    extern __shared__ double room[];
    return room;
}
// Both are one instruction of the special function unit, right to one unit in the last place.
NAS_CNTK_INLINE float fast_root(float x) {
    float y;
    asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
NAS_CNTK_INLINE float fast_inverse(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
NAS_CNTK_INLINE double fast_root(double x) { return sqrt(x); }
NAS_CNTK_INLINE double fast_inverse(double x) { return 1.0 / x; }
NAS_CNTK_INLINE float fused(float a, float b, float c) { return fmaf(a, b, c); }
NAS_CNTK_INLINE double fused(double a, double b, double c) { return ::fma(a, b, c); }
// The same value in all lanes, in a way that the compiler can see: what is decided by it keeps the warp together, and a
// shuffle there needs no check of who takes part (three instructions for each, and a second copy of all code between).
NAS_CNTK_INLINE int greatest(int x) {
#if __CUDA_ARCH__ >= 800
    return __reduce_max_sync(0xffffffffu, x);
#else
    for (int d = 16; d > 0; d /= 2) {
        const int other = __shfl_xor_sync(0xffffffffu, x, d);
        x = other > x ? other : x;
    }
    return x;
#endif
}
NAS_CNTK_INLINE int uniform(int x) { return greatest(x); }
#endif

NAS_CNTK_INLINE One operator+(One a, One b) { return {a.v + b.v}; }
NAS_CNTK_INLINE One operator-(One a, One b) { return {a.v - b.v}; }
NAS_CNTK_INLINE One operator*(One a, One b) { return {a.v * b.v}; }
NAS_CNTK_INLINE One fma(One a, One b, One c) { return {fused(a.v, b.v, c.v)}; }
NAS_CNTK_INLINE One less(One a, One b, One c) { return {fused(-a.v, b.v, c.v)}; }
NAS_CNTK_INLINE One root(One a) { return {fast_root(a.v)}; }
NAS_CNTK_INLINE One magnitude(One a) { return {a.v < 0 ? -a.v : a.v}; }
NAS_CNTK_INLINE One above_or_zero(One a, One b) { return {a.v > b.v ? a.v : real(0)}; }
NAS_CNTK_INLINE One greater(One a, One b) { return {a.v > b.v ? a.v : b.v}; }
NAS_CNTK_INLINE One choose_negative(One s, One x, One y) { return {s.v < 0 ? x.v : y.v}; }

// Takes one entry through a relu, g being sqrt(v v'). Where g is 0, S and T are 0: 0 times the infinite inverse is NaN, which
// is above nothing, so that u = 0 and both stay as they are.
template <bool nonnegative, bool tangent>
NAS_CNTK_INLINE void relu_entry(real& s, real& t, real g) {
    One s_one{s}, t_one{t};
    relu<nonnegative, tangent>(s_one, t_one, One{real(1)}, One{fast_inverse(g)}, One{real(1)}, One{g});
    s = s_one.v;
    if (tangent) t = t_one.v;
}

constexpr bool with_tangent = NAS_CNTK_TANGENT;

#if !defined(NAS_CNTK_TILE_H) || defined(NAS_CNTK_HOST)
// ---------------------------------------------------------------------------------------------------------------------
// Fields in global memory. Field f of a batch is (capacity, rows, columns) reals of S and, behind, of T: the needed row pairs
// (i, i') by the needed column pairs (j, j') of every pair of images. All tables are integers in one array; `at` below is
// where one begins. Every entry a thread.

enum FieldWord {
    f_rows, f_columns,                                  // of the result
    f_out_s, f_out_t,                                   // where it begins, in reals of one pair
    f_in_s, f_in_t, f_in_rows, f_in_columns,            // of what it reads
    f_row_left, f_row_right, f_column_left, f_column_right,  // tables: i, i', j, j' of every row and column pair
    f_row_start, f_row_list, f_column_start, f_column_list,  // tables: the row (column) pairs of the input that each reads
    f_row_weight, f_column_weight,                      // of each, in `weights`
    f_flags,                                            // see FieldFlag
    f_left_sheet, f_right_sheet, f_sheet, f_channels,   // sheets: where they begin in those of one image; channels
    f_left_width, f_right_width,
    f_head, f_out_words, f_words
};
enum FieldFlag { f_add_s = 1, f_nonnegative = 2, f_no_input = 4, f_first = 8 };

#define NAS_CNTK_FIELD_ARGUMENTS                                                                                          \
    const int64 *w, const double *reals, const int *tables, const double *weights, real *fields, const real *left_sheets, \
        const real *right_sheets, real *own_sheets, double *out, int64 sheets_size_left, int64 sheets_size_right, int first, int count, int columns, \
        int capacity

// The entry and pair of a thread, and the images of the pair; with `columns` 0 an image is paired with itself.
struct Entry {
    bool inside;
    int pair, row, column;
    int64 a, b;
};
NAS_CNTK_INLINE Entry entry_of(const int64* w, int first, int count, int columns) {
    const int64 size = w[f_rows] * w[f_columns];
    const int64 index = int64(blockIdx.x) * blockDim.x + threadIdx.x;
    Entry e;
    e.inside = index < size * count;
    int at = 0;
    e.pair = 0;
    if (e.inside && size * count < (int64(1) << 31)) {  // division of 64 bits costs more than all the rest
        e.pair = int(unsigned(index) / unsigned(size));
        at = int(unsigned(index) % unsigned(size));
    } else if (e.inside) {
        e.pair = int(index / size);
        at = int(index % size);
    }
    e.row = at / int(w[f_columns]);
    e.column = at % int(w[f_columns]);
    e.a = columns ? (first + e.pair) / columns : first + e.pair;
    e.b = columns ? (first + e.pair) % columns : first + e.pair;
    return e;
}
NAS_CNTK_INLINE real* field_at(real* fields, int64 begin, int64 size, int pair, int capacity) {
    return fields + begin * capacity + size * pair;
}

// (1/C) sum over channels of x_c[i, j] x'_c[i', j'].
NAS_CNTK_KERNEL void field_input(NAS_CNTK_FIELD_ARGUMENTS) {
    const Entry e = entry_of(w, first, count, columns);
    if (!e.inside) return;
    const int64 p = int64(tables[w[f_row_left] + e.row]) * w[f_left_width] + tables[w[f_column_left] + e.column];
    const int64 q = int64(tables[w[f_row_right] + e.row]) * w[f_right_width] + tables[w[f_column_right] + e.column];
    const int64 area = w[f_sheet];
    real sum = 0;
    for (int64 c = 0; c < w[f_channels]; ++c)
        sum = fused(left_sheets[e.a * sheets_size_left + c * area + p], right_sheets[e.b * sheets_size_right + c * area + q], sum);
    const int64 size = w[f_rows] * w[f_columns], at = e.row * w[f_columns] + e.column;
    field_at(fields, w[f_out_s], size, e.pair, capacity)[at] = sum * real(reals[0]);
    if (with_tangent) field_at(fields, w[f_out_t], size, e.pair, capacity)[at] = 0;
}

// A conv's window sum or one side of a pooling: weights are products of a row's and a column's.
NAS_CNTK_KERNEL void field_linear(NAS_CNTK_FIELD_ARGUMENTS) {
    const Entry e = entry_of(w, first, count, columns);
    if (!e.inside) return;
    const int64 in_columns = w[f_in_columns], in_size = w[f_in_rows] * in_columns;
    const int *row_start = tables + w[f_row_start] + e.row, *column_start = tables + w[f_column_start] + e.column;
    const int *row_list = tables + w[f_row_list], *column_list = tables + w[f_column_list];
    const real weight = real(weights[w[f_row_weight] + e.row] * weights[w[f_column_weight] + e.column]);
    const int64 size = w[f_rows] * w[f_columns], at = e.row * w[f_columns] + e.column;
    real s = 0;
    for (int moment = 0; moment < (with_tangent ? 2 : 1); ++moment) {
        const real* in = field_at(fields, w[moment ? f_in_t : f_in_s], in_size, e.pair, capacity);
        real total = 0;
        for (int n = row_start[0]; n < row_start[1]; ++n) {
            real sum = 0;
            for (int m = column_start[0]; m < column_start[1]; ++m) sum += in[row_list[n] * in_columns + column_list[m]];
            total += sum;
        }
        total *= weight;
        if (moment == 0) s = total;
        else if (w[f_flags] & f_add_s) total += s;
        field_at(fields, w[moment ? f_out_t : f_out_s], size, e.pair, capacity)[at] = total;
    }
}

// One entry of the input of a pointwise operation: row and column of the result -> S and T, 0 where they were not needed.
NAS_CNTK_INLINE void read_input(const int64* w, const int* tables, real* fields, const Entry& e, int capacity, real& s, real& t) {
    s = t = 0;
    if (w[f_flags] & f_no_input) return;
    const int n = tables[w[f_row_list] + e.row], m = tables[w[f_column_list] + e.column];
    if (n < 0 || m < 0) return;
    const int64 size = w[f_in_rows] * w[f_in_columns], at = n * w[f_in_columns] + m;
    s = field_at(fields, w[f_in_s], size, e.pair, capacity)[at];
    if (with_tangent) t = field_at(fields, w[f_in_t], size, e.pair, capacity)[at];
}
NAS_CNTK_INLINE void write_output(const int64* w, real* fields, const Entry& e, int capacity, real s, real t) {
    const int64 size = w[f_rows] * w[f_columns], at = e.row * w[f_columns] + e.column;
    field_at(fields, w[f_out_s], size, e.pair, capacity)[at] = s;
    if (with_tangent) field_at(fields, w[f_out_t], size, e.pair, capacity)[at] = t;
}

// S and T through a relu; reals: what takes S to the scale of the sheets and back.
NAS_CNTK_KERNEL void field_relu(NAS_CNTK_FIELD_ARGUMENTS) {
    const Entry e = entry_of(w, first, count, columns);
    if (!e.inside) return;
    real s, t;
    read_input(w, tables, fields, e, capacity, s, t);
    const int64 p = int64(tables[w[f_row_left] + e.row]) * w[f_left_width] + tables[w[f_column_left] + e.column];
    const int64 q = int64(tables[w[f_row_right] + e.row]) * w[f_right_width] + tables[w[f_column_right] + e.column];
    const real g = left_sheets[e.a * sheets_size_left + w[f_left_sheet] + p] * right_sheets[e.b * sheets_size_right + w[f_right_sheet] + q];
    s *= real(reals[0]);
    t *= real(reals[0]);
    if (w[f_flags] & f_nonnegative) relu_entry<true, with_tangent>(s, t, g);
    else relu_entry<false, with_tangent>(s, t, g);
    write_output(w, fields, e, capacity, s * real(reals[1]), t * real(reals[1]));
}

// The same where every correlation is +1 or -1: k1 and k0 are 1 and 1, or 0 and 0.
NAS_CNTK_KERNEL void field_aligned(NAS_CNTK_FIELD_ARGUMENTS) {
    const Entry e = entry_of(w, first, count, columns);
    if (!e.inside) return;
    real s, t;
    read_input(w, tables, fields, e, capacity, s, t);
    write_output(w, fields, e, capacity, s > 0 ? s : 0, s < 0 ? 0 : t);
}

// One term of a sum: the first sets, the others add.
NAS_CNTK_KERNEL void field_term(NAS_CNTK_FIELD_ARGUMENTS) {
    const Entry e = entry_of(w, first, count, columns);
    if (!e.inside) return;
    real s, t;
    read_input(w, tables, fields, e, capacity, s, t);
    s *= real(reals[0]);
    t *= real(reals[0]);
    if (!(w[f_flags] & f_first)) {
        const int64 size = w[f_rows] * w[f_columns], at = e.row * w[f_columns] + e.column;
        s += field_at(fields, w[f_out_s], size, e.pair, capacity)[at];
        if (with_tangent) t += field_at(fields, w[f_out_t], size, e.pair, capacity)[at];
    }
    write_output(w, fields, e, capacity, s, t);
}

// sqrt(v) at the equal positions of a field of one value; an image is paired with itself.
NAS_CNTK_KERNEL void field_variance(NAS_CNTK_FIELD_ARGUMENTS) {
    const Entry e = entry_of(w, first, count, columns);
    if (!e.inside) return;
    const int n = tables[w[f_row_list] + e.row], m = tables[w[f_column_list] + e.column];
    const int64 size = w[f_in_rows] * w[f_in_columns];
    const real s = field_at(fields, w[f_in_s], size, e.pair, capacity)[n * w[f_in_columns] + m];
    own_sheets[e.a * sheets_size_left + w[f_sheet] + e.row * w[f_columns] + e.column] = fast_root(s > 0 ? s : real(0));
}

// One term of a head: out += reals[0] times the sum over entries of weight times S, and T. A block a pair.
NAS_CNTK_KERNEL void field_head(NAS_CNTK_FIELD_ARGUMENTS) {
    double* const room = shared_room();
    const int64 size = w[f_rows] * w[f_columns];
    double sum[2] = {0, 0};
    for (int moment = 0; moment < (with_tangent ? 2 : 1); ++moment) {
        const real* in = field_at(fields, w[moment ? f_in_t : f_in_s], size, blockIdx.x, capacity);
        for (int64 k = threadIdx.x; k < size; k += blockDim.x)
            sum[moment] += weights[w[f_row_weight] + k / w[f_columns]] * weights[w[f_column_weight] + k % w[f_columns]] * double(in[k]);
        room[2 * threadIdx.x + moment] = sum[moment];
    }
    __syncthreads();
    if (threadIdx.x < (with_tangent ? 2 : 1)) {
        double total = 0;
        for (int k = 0; k < int(blockDim.x); ++k) total += room[2 * k + threadIdx.x];
        out[(int64(first) + blockIdx.x) * w[f_out_words] + 2 * w[f_head] + threadIdx.x] += reals[0] * total;
    }
}

// Writes images (h, w, c) as the first sheets of each; an element a thread.
NAS_CNTK_KERNEL void place_channels(const real* x, real* own, int64 images, int channels, int sheets, int area) {
    const int64 index = int64(blockIdx.x) * blockDim.x + threadIdx.x, of_image = int64(channels) * area;
    if (index >= images * of_image) return;
    const int64 image = index / of_image, at = index % of_image;
    own[(image * sheets + at / area) * area + at % area] = x[image * of_image + at % area * channels + at / area];
}

// Writes every sheet of every image as the left and as the right image of a stretch reads it; an element a thread.
NAS_CNTK_KERNEL void arrange(const real* own, real* left, real* right, int64 images, int sheets, int height, int width, int tile_h,
                             int tile_w, int pitch) {
    const int across = (width + tile_w - 1) / tile_w, down = (height + tile_h - 1) / tile_h;
    const int left_width = across * tile_w, left_size = down * tile_h * left_width;
    const int rows = height + tile_h - 1, right_size = rows * pitch;
    const int64 index = int64(blockIdx.x) * blockDim.x + threadIdx.x;
    const int64 sheet = index / (left_size + right_size);
    const int at = int(index % (left_size + right_size));
    if (sheet >= images * sheets) return;
    const real* from = own + sheet * height * width;
    if (at < left_size) {
        const int i = at / left_width, j = at % left_width;
        left[sheet * left_size + at] = i < height && j < width ? from[i * width + j] : real(0);
    } else {
        const int i = (at - left_size) / pitch % height, x = (at - left_size) % pitch;
        const int j = x % across * tile_w + x / across;
        right[sheet * right_size + at - left_size] = x < tile_w * across && j < width ? from[i * width + j] : real(0);
    }
}

#endif

#ifdef NAS_CNTK_TILE_H
// ---------------------------------------------------------------------------------------------------------------------
// A stretch: a list of operations on one plane that is kept in registers (the accumulator).

constexpr int tile_h = NAS_CNTK_TILE_H, tile_w = NAS_CNTK_TILE_W;
constexpr unsigned all_lanes = 0xffffffffu;
// Where one thread has all rows (columns) of its plane, there is nothing to exchange along them.
constexpr bool rows_alone = NAS_CNTK_HEIGHT && NAS_CNTK_HEIGHT <= tile_h, columns_alone = NAS_CNTK_WIDTH && NAS_CNTK_WIDTH <= tile_w;

enum OpKind {
    op_input,      // S = x * sum over b channels, sheets from a on; T = 0
    op_zero,       // S = T = 0
    op_load,       // from stored field a
    op_store,      // to stored field a
    op_keep,       // slot a = accumulator
    op_fetch,      // accumulator = slot a
    op_add,        // accumulator += x * slot a
    op_add_field,  // accumulator += x * stored field a
    op_scale,      // accumulator *= x
    op_relu,       // sheets a and b of the left and right image; c & 1: S is known to be >= 0
    op_conv,       // window sums of reach c >> 2, times x; c & 2: T += S
    op_layer,      // a relu, then a conv
    op_aligned,    // the same where every correlation is +1 or -1
    op_head,       // head a += x * sum of weights (from b on) * S, T; c: table of the offsets it needs
    op_variance    // sheet a = sqrt(S), in planes of an image with itself at offset (0, 0)
};

struct Op {
    int kind, a, b, c;
    double x;
};

// What a stretch reads of its plan.
enum StretchWord {
    s_height, s_width, s_ops, s_planes, s_per_pair, s_heads, s_out_words, s_pitch, s_first_sheet, s_sheets, s_words
};
// A stored field: where S and T begin, its size, the columns of a row, and tables: offset -> first row (column) or -1.
enum StoredWord { d_s, d_t, d_size, d_columns, d_row_table, d_column_table, d_words };

struct Tile {
    real at[tile_h][tile_w];
};

// Of one thread: its place in the plane, and which of its neighbours are neighbours in both images (1 or 0):
// row_link[k] between row k - 1 and row k of its tile, column_link alike.
struct Place {
    int i, j, across;
    real row_link[tile_h + 1], column_link[tile_w + 1];
};

// Sums over windows of 2 reach + 1 along rows, then columns, of a plane, inside the linked stretches. Sums of entries to the
// left and including an entry grow by one step a round, a[k] = x[k] + link a[k - 1]; those to the right alike, and the two
// meet: every position adds in the same order, so that equal patches have equal sums.
template <int fixed>
NAS_CNTK_INLINE void window(Tile& x, const Place& place, int reach) {
    const int rounds = fixed ? fixed : reach;
#pragma unroll
    for (int r = 0; r < tile_h; ++r) {
        real a[tile_w], b[tile_w];
#pragma unroll
        for (int k = 0; k < tile_w; ++k) a[k] = b[k] = x.at[r][k];
#pragma unroll(fixed ? fixed : 1)
        for (int round = 0; round < rounds; ++round) {
            const real from = columns_alone ? real(0) : __shfl_up_sync(all_lanes, a[tile_w - 1], 1);
#pragma unroll
            for (int k = tile_w - 1; k > 0; --k) a[k] = fused(place.column_link[k], a[k - 1], x.at[r][k]);
            a[0] = fused(place.column_link[0], from, x.at[r][0]);
        }
#pragma unroll(fixed ? fixed : 1)
        for (int round = 1; round < rounds; ++round) {
            const real from = columns_alone ? real(0) : __shfl_down_sync(all_lanes, b[0], 1);
#pragma unroll
            for (int k = 0; k < tile_w - 1; ++k) b[k] = fused(place.column_link[k + 1], b[k + 1], x.at[r][k]);
            b[tile_w - 1] = fused(place.column_link[tile_w], from, x.at[r][tile_w - 1]);
        }
        const real from = columns_alone ? real(0) : __shfl_down_sync(all_lanes, b[0], 1);
#pragma unroll
        for (int k = 0; k < tile_w - 1; ++k) x.at[r][k] = fused(place.column_link[k + 1], b[k + 1], a[k]);
        x.at[r][tile_w - 1] = fused(place.column_link[tile_w], from, a[tile_w - 1]);
    }
#pragma unroll
    for (int k = 0; k < tile_w; ++k) {
        real a[tile_h], b[tile_h];
#pragma unroll
        for (int r = 0; r < tile_h; ++r) a[r] = b[r] = x.at[r][k];
#pragma unroll(fixed ? fixed : 1)
        for (int round = 0; round < rounds; ++round) {
            const real from = rows_alone ? real(0) : __shfl_up_sync(all_lanes, a[tile_h - 1], place.across);
#pragma unroll
            for (int r = tile_h - 1; r > 0; --r) a[r] = fused(place.row_link[r], a[r - 1], x.at[r][k]);
            a[0] = fused(place.row_link[0], from, x.at[0][k]);
        }
#pragma unroll(fixed ? fixed : 1)
        for (int round = 1; round < rounds; ++round) {
            const real from = rows_alone ? real(0) : __shfl_down_sync(all_lanes, b[0], place.across);
#pragma unroll
            for (int r = 0; r < tile_h - 1; ++r) b[r] = fused(place.row_link[r + 1], b[r + 1], x.at[r][k]);
            b[tile_h - 1] = fused(place.row_link[tile_h], from, x.at[tile_h - 1][k]);
        }
        const real from = rows_alone ? real(0) : __shfl_down_sync(all_lanes, b[0], place.across);
#pragma unroll
        for (int r = 0; r < tile_h - 1; ++r) x.at[r][k] = fused(place.row_link[r + 1], b[r + 1], a[r]);
        x.at[tile_h - 1][k] = fused(place.row_link[tile_h], from, a[tile_h - 1]);
    }
}

NAS_CNTK_INLINE void windows(Tile& x, const Place& place, int reach) {
    if (reach == 1) window<1>(x, place, 1);
    else if (reach == 2) window<2>(x, place, 2);
    else if (reach > 2) window<0>(x, place, reach);
}

// f(r, k) for every entry of a tile.
#define NAS_CNTK_EACH_ENTRY                        \
    _Pragma("unroll") for (int r = 0; r < tile_h; ++r) \
        _Pragma("unroll") for (int k = 0; k < tile_w; ++k)

// Sheets as a thread reads them: its tile of a left sheet, and of a right sheet from the plane's offset on. `own`: those of
// one image in their plain form, still being written by this very thread.
struct Sheets {
    const real *left, *right;
    int left_size, right_size, left_at, left_width, pitch;
    int right_at[tile_w];
};

// Reads tiles of two sheets, row by row.
template <bool own>
struct SheetRows {
    const real *left, *right[tile_w];
    const Sheets& sheets;
    const Place& place;
    int height, width;

    NAS_CNTK_MEMBER SheetRows(const Sheets& sheets, const Place& place, int height, int width, int u, int v)
        : sheets(sheets), place(place), height(height), width(width) {
        if (own) {
            left = sheets.left + int64(u) * sheets.left_size + place.i * width + place.j;
            right[0] = sheets.left + int64(v) * sheets.left_size + place.i * width + place.j;
        } else {
            left = sheets.left + int64(u) * sheets.left_size + sheets.left_at;
#pragma unroll
            for (int k = 0; k < tile_w; ++k) right[k] = sheets.right + int64(v) * sheets.right_size + sheets.right_at[k];
        }
    }

    NAS_CNTK_MEMBER void read(int r, real (&x)[tile_w], real (&y)[tile_w]) const {
        if (own) {
#pragma unroll
            for (int k = 0; k < tile_w; ++k) {
                const bool inside = place.i + r < height && place.j + k < width;
                x[k] = inside ? left[r * width + k] : real(0);
                y[k] = inside ? right[0][r * width + k] : real(0);
            }
            return;
        }
        const real* const row = left + r * sheets.left_width;
#ifndef NAS_CNTK_HOST
        if (sizeof(real) == 4 && tile_w % 4 == 0) {
#pragma unroll
            for (int k = 0; k < tile_w; k += 4) {
                const float4 four = *reinterpret_cast<const float4*>(row + k);
                x[k] = four.x, x[k + 1] = four.y, x[k + 2] = four.z, x[k + 3] = four.w;
            }
        } else
#endif
#pragma unroll
            for (int k = 0; k < tile_w; ++k) x[k] = row[k];
#pragma unroll
        for (int k = 0; k < tile_w; ++k) y[k] = right[k][r * sheets.pitch];
    }
};

template <bool own, bool nonnegative>
NAS_CNTK_INLINE void relu_tile(Tile& s, Tile& t, const SheetRows<own>& rows) {
#pragma unroll
    for (int r = 0; r < tile_h; ++r) {
        real x[tile_w], y[tile_w];
        rows.read(r, x, y);
#pragma unroll
        for (int k = 0; k < tile_w; ++k) relu_entry<nonnegative, with_tangent>(s.at[r][k], t.at[r][k], x[k] * y[k]);
    }
}

#define NAS_CNTK_STRETCH_ARGUMENTS                                                                                               \
    const int64 *w, const Op *ops, const int *planes, const int *tables, const double *weights, const int64 *stored, real *fields, \
        const real *left_sheets, const real *right_sheets, real *own_sheets, double *out, int first, int count, int columns,     \
        int capacity, int skip_below

// A thread's tile of a stored field of one pair, in the plane of an offset.
struct StoredTile {
    real *s, *t;
    int64 row;
    bool there;

    NAS_CNTK_MEMBER StoredTile(const int64* stored, const int* tables, real* fields, int number, int di, int dj, int pair, int capacity,
                               const Place& place, bool live) {
        const int64* d = stored + int64(number) * d_words;
        const int first_row = tables[d[d_row_table] + di], first_column = tables[d[d_column_table] + dj];
        there = first_row >= 0 && first_column >= 0 && live;
        row = d[d_columns];
        const int64 from = int64(pair) * d[d_size] + int64(first_row + place.i) * row + first_column + place.j;
        s = fields + d[d_s] * capacity + from;
        t = fields + d[d_t] * capacity + from;
    }
};

enum Mode { from_global, staged, itself };

template <Mode mode>
NAS_CNTK_INLINE void run_stretch(NAS_CNTK_STRETCH_ARGUMENTS) {
    double* const room = shared_room();
    const int height = NAS_CNTK_HEIGHT ? NAS_CNTK_HEIGHT : int(w[s_height]), width = NAS_CNTK_WIDTH ? NAS_CNTK_WIDTH : int(w[s_width]);
    const int across = (width + tile_w - 1) / tile_w, down = (height + tile_h - 1) / tile_h;
    const int members = across * down, groups = 32 / members;
    const int lane = threadIdx.x % 32, in_warp = lane / members, member = lane % members;
    const int n_groups = blockDim.x / 32 * groups;
    const int group = threadIdx.x / 32 * groups + (in_warp < groups ? in_warp : 0);  // lanes to spare shadow the first group
    const int per_pair = int(w[s_per_pair]), pairs = n_groups / per_pair;
    const int slot = group / per_pair, in_pair = group % per_pair;
    const int begin = blockIdx.x * pairs;
    const bool alive = in_warp < groups && slot < pairs && begin + slot < count;
    const int pair = alive ? begin + slot : begin;
    const int64 a = columns ? (first + pair) / columns : first + pair, b = columns ? (first + pair) % columns : first + pair;
    // Of a symmetric matrix, blocks of one pair leave those below the diagonal to be copied.
    if (uniform(pairs == 1 && a > b + skip_below)) return;

    const int heads = int(w[s_heads]), n_sheets = int(w[s_sheets]), first_sheet = int(w[s_first_sheet]);
    const int64 all_sheets = w[s_words];
    for (int k = threadIdx.x; k < n_groups * heads * 2; k += blockDim.x) room[k] = 0;

    Place place;
    place.across = across;
    place.i = member / across * tile_h;
    place.j = member % across * tile_w;
    Sheets sheets;
    sheets.pitch = NAS_CNTK_PITCH ? NAS_CNTK_PITCH : int(w[s_pitch]);
    sheets.left_width = across * tile_w;
    sheets.left_size = mode == itself ? height * width : down * tile_h * sheets.left_width;
    sheets.right_size = (height + tile_h - 1) * sheets.pitch;
    sheets.left_at = place.i * sheets.left_width + place.j;
    if (mode == itself) {
        sheets.left = own_sheets + a * all_sheets * sheets.left_size;
        sheets.right = sheets.left;
    } else {
        const real* left = left_sheets + (a * all_sheets + first_sheet) * sheets.left_size;
        const real* right = right_sheets + (b * all_sheets + first_sheet) * sheets.right_size;
        if (mode == staged) {
            // Behind the heads, left sheets first: they are read in words of 16 bytes. All of one pair.
            real* const to = reinterpret_cast<real*>(room + n_groups * heads * 2);
            const int left_all = n_sheets * sheets.left_size, right_all = n_sheets * sheets.right_size;
            for (int k = threadIdx.x; k < left_all; k += blockDim.x) to[k] = left[k];
            for (int k = threadIdx.x; k < right_all; k += blockDim.x) to[left_all + k] = right[k];
            left = to;
            right = to + left_all;
        }
        sheets.left = left - first_sheet * sheets.left_size;
        sheets.right = right - first_sheet * sheets.right_size;
    }
    __syncthreads();

    Tile s, t;
    NAS_CNTK_EACH_ENTRY s.at[r][k] = t.at[r][k] = 0;
#if NAS_CNTK_SLOTS
    Tile kept[NAS_CNTK_SLOTS][1 + with_tangent];
#endif
    const int n_planes = uniform(int(w[s_planes])), step = uniform(per_pair);
    for (int start = 0; start < n_planes; start += step) {
        const bool live = alive && start + in_pair < n_planes;
        const int* plane = planes + 3 * (live ? start + in_pair : start);
        const int di = plane[0], dj = plane[1];
        // Planes come with the longest list of operations first; a warp goes as far as any of its groups.
        const int length = greatest(live ? plane[2] : 0);
#pragma unroll
        for (int r = 0; r <= tile_h; ++r) {
            const int i = place.i + r;  // between i - 1 and i
            place.row_link[r] = i > 0 && i < height && i + di != height ? real(1) : real(0);
        }
#pragma unroll
        for (int k = 0; k <= tile_w; ++k) {
            const int j = place.j + k;
            place.column_link[k] = j > 0 && j < width && j + dj != width ? real(1) : real(0);
        }
        if (mode != itself) {
            const int i = (place.i + di) % height;
#pragma unroll
            for (int k = 0; k < tile_w; ++k) {
                const int j = (place.j + k + dj) % width;
                sheets.right_at[k] = i * sheets.pitch + j % tile_w * across + j / tile_w;
            }
        }
        for (int o = 0; o < length; ++o) {
            const Op& op = ops[o];
            const int kind = uniform(op.kind), a_ = uniform(op.a), b_ = uniform(op.b), c_ = uniform(op.c);
            switch (kind) {
                case op_input: {
                    NAS_CNTK_EACH_ENTRY s.at[r][k] = t.at[r][k] = 0;
                    for (int c = 0; c < b_; ++c) {
                        const SheetRows<mode == itself> rows(sheets, place, height, width, a_ + c, a_ + c);
#pragma unroll
                        for (int r = 0; r < tile_h; ++r) {
                            real x[tile_w], y[tile_w];
                            rows.read(r, x, y);
#pragma unroll
                            for (int k = 0; k < tile_w; ++k) s.at[r][k] = fused(x[k], y[k], s.at[r][k]);
                        }
                    }
                    const real x = real(op.x);
                    NAS_CNTK_EACH_ENTRY s.at[r][k] *= x;
                    break;
                }
                case op_zero: NAS_CNTK_EACH_ENTRY s.at[r][k] = t.at[r][k] = 0; break;
                case op_load:
                case op_add_field: {
                    const StoredTile from(stored, tables, fields, a_, di, dj, pair, capacity, place, live);
                    const real x = real(op.x), kept_before = kind == op_add_field ? real(1) : real(0);
                    NAS_CNTK_EACH_ENTRY {
                        const bool inside = from.there && place.i + r < height && place.j + k < width;
                        const int64 at = r * from.row + k;
                        s.at[r][k] = fused(x, inside ? from.s[at] : real(0), kept_before * s.at[r][k]);
                        if (with_tangent) t.at[r][k] = fused(x, inside ? from.t[at] : real(0), kept_before * t.at[r][k]);
                    }
                    break;
                }
                case op_store: {
                    const StoredTile to(stored, tables, fields, a_, di, dj, pair, capacity, place, live);
                    NAS_CNTK_EACH_ENTRY {
                        const int64 at = r * to.row + k;
                        if (!to.there || place.i + r >= height || place.j + k >= width) continue;
                        to.s[at] = s.at[r][k];
                        if (with_tangent) to.t[at] = t.at[r][k];
                    }
                    break;
                }
#if NAS_CNTK_SLOTS
                case op_keep:
                    NAS_CNTK_EACH_ENTRY {
                        kept[a_][0].at[r][k] = s.at[r][k];
                        if (with_tangent) kept[a_][with_tangent].at[r][k] = t.at[r][k];
                    }
                    break;
                case op_fetch:
                    NAS_CNTK_EACH_ENTRY {
                        s.at[r][k] = kept[a_][0].at[r][k];
                        if (with_tangent) t.at[r][k] = kept[a_][with_tangent].at[r][k];
                    }
                    break;
                case op_add: {
                    const real x = real(op.x);
                    NAS_CNTK_EACH_ENTRY {
                        s.at[r][k] = fused(x, kept[a_][0].at[r][k], s.at[r][k]);
                        if (with_tangent) t.at[r][k] = fused(x, kept[a_][with_tangent].at[r][k], t.at[r][k]);
                    }
                    break;
                }
#endif
                case op_scale: {
                    const real x = real(op.x);
                    NAS_CNTK_EACH_ENTRY {
                        s.at[r][k] *= x;
                        t.at[r][k] *= x;
                    }
                    break;
                }
                case op_relu:
                case op_conv:
                case op_layer: {
                    if (kind != op_conv) {
                        const SheetRows<mode == itself> rows(sheets, place, height, width, a_, b_);
                        if (c_ & 1) relu_tile<mode == itself, true>(s, t, rows);
                        else relu_tile<mode == itself, false>(s, t, rows);
                    }
                    if (kind == op_relu) break;
                    windows(s, place, c_ >> 2);
                    if (with_tangent) windows(t, place, c_ >> 2);
                    if (op.x != 1) {
                        const real x = real(op.x);
                        NAS_CNTK_EACH_ENTRY {
                            s.at[r][k] *= x;
                            t.at[r][k] *= x;
                        }
                    }
                    if (with_tangent && c_ & 2) NAS_CNTK_EACH_ENTRY t.at[r][k] += s.at[r][k];
                    break;
                }
                case op_aligned:
                    NAS_CNTK_EACH_ENTRY {
                        if (s.at[r][k] < 0) s.at[r][k] = t.at[r][k] = 0;
                    }
                    break;
                case op_head: {
                    const bool needed = live && tables[c_ + di] && tables[c_ + height + dj];
                    if (!greatest(needed)) break;
                    real s_sum = 0, t_sum = 0;
                    if (needed) {
                        const double *row_weights = weights + b_, *column_weights = weights + b_ + height * height;
                        real column_weight[tile_w];
#pragma unroll
                        for (int k = 0; k < tile_w; ++k) {
                            const int j = place.j + k, j2 = j + dj < width ? j + dj : j + dj - width;
                            column_weight[k] = j < width ? real(column_weights[j * width + j2]) : real(0);
                        }
#pragma unroll
                        for (int r = 0; r < tile_h; ++r) {
                            const int i = place.i + r, i2 = i + di < height ? i + di : i + di - height;
                            real s_row = 0, t_row = 0;
#pragma unroll
                            for (int k = 0; k < tile_w; ++k) {
                                s_row = fused(column_weight[k], s.at[r][k], s_row);
                                t_row = fused(column_weight[k], t.at[r][k], t_row);
                            }
                            const real row_weight = i < height ? real(row_weights[i * height + i2]) : real(0);
                            s_sum = fused(row_weight, s_row, s_sum);
                            t_sum = fused(row_weight, t_row, t_sum);
                        }
                    }
#pragma unroll
                    for (int d = 16; d > 0; d /= 2) {
                        const real s_more = __shfl_down_sync(all_lanes, s_sum, d), t_more = __shfl_down_sync(all_lanes, t_sum, d);
                        if (member < d && member + d < members) {
                            s_sum += s_more;
                            t_sum += t_more;
                        }
                    }
                    if (needed && member == 0) {
                        double* const sums = room + 2 * (group * heads + a_);
                        sums[0] += op.x * double(s_sum);
                        sums[1] += op.x * double(t_sum);
                    }
                    break;
                }
                case op_variance:
                    if (mode == itself && live) {
                        real* const to = own_sheets + (a * all_sheets + a_) * int64(height) * width;
                        NAS_CNTK_EACH_ENTRY {
                            const real v = s.at[r][k];
                            if (place.i + r < height && place.j + k < width)
                                to[(place.i + r) * width + place.j + k] = fast_root(v > 0 ? v : real(0));
                        }
                    }
                    break;
            }
        }
    }
    __syncthreads();
    for (int k = threadIdx.x; k < pairs * heads * 2; k += blockDim.x) {
        const int of = k / (heads * 2), word = k % (heads * 2);
        if (begin + of >= count) continue;
        double total = 0;
        for (int g = of * per_pair; g < (of + 1) * per_pair; ++g) total += room[g * heads * 2 + word];
        out[(int64(first) + begin + of) * w[s_out_words] + word] += total;
    }
}

#define NAS_CNTK_STRETCH(name, mode)                                                                                                \
    NAS_CNTK_KERNEL void NAS_CNTK_BOUNDS name(NAS_CNTK_STRETCH_ARGUMENTS) {                                                         \
        run_stretch<mode>(w, ops, planes, tables, weights, stored, fields, left_sheets, right_sheets, own_sheets, out, first, count, \
                          columns, capacity, skip_below);                                                                           \
    }
#if !defined(NAS_CNTK_MODE) || NAS_CNTK_MODE == 0
NAS_CNTK_STRETCH(stretch, from_global)
#endif
#if !defined(NAS_CNTK_MODE) || NAS_CNTK_MODE == 1
NAS_CNTK_STRETCH(stretch_staged, staged)
#endif
#if !defined(NAS_CNTK_MODE) || NAS_CNTK_MODE == 2
NAS_CNTK_STRETCH(stretch_itself, itself)
#endif
#endif

}  // namespace nas_cntk
