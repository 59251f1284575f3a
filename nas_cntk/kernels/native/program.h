// A lowered family of architectures, as nas_cntk/kernels/plan.py writes it: the same for every instruction set.
//
// Everything is a product of two axes. A field (the covariance S and the tangent T of two values, at the positions that
// somebody needs) is a matrix of row pairs (i, i') by column pairs (j, j') by lanes, and every instruction is one table
// on the row axis and one on the column axis. A level is a run of instructions that can be carried through block by
// block, a block being a group of row pairs by a group of column pairs that no instruction of the level mixes with the
// rest: for stride-1 convs one or more planes of one offset. Fields that cross levels are global, the rest live in
// slots of scratch memory as large as the largest block.
//
// A field may be kept as a known multiple of itself, its scale: the window sum of a conv is not divided by q^2, the next
// relu is told instead.
#pragma once

#include <cstdint>

namespace nas_cntk {

constexpr int cache_line = 64;  // bytes: one vector of lanes, 16 floats or 8 doubles
constexpr int together = 2;     // left images that are carried through side by side
constexpr int most_readouts = 64;

// Entries between the beginnings of two arrays that are read side by side. 8 x 8 entries are 4 KiB, and arrays a multiple
// of that apart fall into the same sets of an L1 cache and look alike to its store buffer.
constexpr int64_t apart(int64_t entries) { return entries % 64 > 56 || entries % 64 < 8 ? entries + 20 : entries; }

enum Kind : int32_t { input_kind, linear_kind, relu_kind, sum_kind, head_kind, variance_kind, layer_kind };

enum Flag : int32_t {
    tangent_in = 1,   // the (first) input has a tangent
    tangent_out = 2,  // the output has one
    add_s = 4,        // a trainable conv: the output's tangent gets the output's covariance added
    nonnegative = 8,  // every correlation is known to be >= 0
    aligned = 16,     // every correlation is known to be +1 or -1
    no_output = 32,   // a layer without a conv: only heads read the relu
};

// One axis of one instruction in one group. Which members are used depends on the kind.
struct Axis {
    int32_t n;             // outputs (heads, variances: inputs)
    const int32_t* out;    // n: index in the output's storage
    const int32_t* left;   // n: position in the left image (input, relu, variance)
    const int32_t* right;  // n: position in the right image
    const int32_t* in;     // n: index in the input's storage (relu, head, variance); sum: terms x n
    const int32_t* start;  // n + 1: the outputs' runs in `list` (linear)
    const int32_t* list;   // linear: row axis, indices in the input's storage; column axis, indices in `used`,
                           // padded to `width` each with n_used, a column of zeros
    const int32_t* used;   // n_used: indices in the input's storage (linear, column axis)
    const double* weight;  // n (linear, head)
    int32_t n_used;
    int32_t width;         // greatest length of a run in `list`
    int32_t out_stride;    // column axis: columns of the output's storage
    const int32_t* in_stride;  // column axis: columns of each input's storage
    const int32_t* added;  // linear: terms behind the first x n, index in each one's storage
    // A layer: a relu and what alone reads it, heads and at most one conv. `in`, `left`, `right` then describe the relu's
    // n_relu entries, the rest the conv's n; `list` indexes the relu's entries of the group.
    int32_t n_relu;
    // Of a layer > 0 if the conv's entries are the relu's and its windows are neighbours m - 1, m, m + 1; linear: if the
    // windows are, around `in`.
    int32_t n_segments;
    const int32_t* segments;  // n_segments + 1: where runs of neighbouring columns begin
    bool pointwise;  // layer: every window is the relu's entry at the same place, with weight 1
    // Two runs beside one another in all but the left image, where the second begins at 0 as the first ends: where it
    // begins. 0 for any other.
    int32_t second;
    const int32_t* head_here;  // of each head: whether one of its weights in this group is not 0
    const double* head_weight;  // of each head: n_relu weights; and the same as floats
    const float* head_weight_single;
};

struct Storage {
    int32_t global;  // 0: a slot of scratch, 1: a global field
    int32_t slot;
};

struct Instruction {
    Kind kind;
    int32_t flags;
    Storage out;
    int32_t n_in;
    const Storage* in;
    const int32_t* in_flags;  // sum, linear: whether each term has a tangent
    const double* coefficient;  // sum, linear, head: of each input; relu, layer: the input's scale; variance: one over it
    int32_t left_offset;  // relu, layer: of the left image's maps for it
    int32_t u, v;  // relu, layer: variance maps of the left and right image; variance: u
    int32_t n_heads;  // head: one; layer: how many read the relu
    const int32_t* heads;  // their readouts
    const double* head_coefficient;
    const Axis* rows;  // one a row group
    const Axis* columns;
};

struct Level {
    int32_t n_instructions, n_row_groups, n_column_groups;
    const Instruction* instructions;
};

struct Program {
    int32_t h, w, c;
    int32_t n_variances;
    const int32_t* variance_h;
    const int32_t* variance_w;
    const int32_t* left_step;        // of each map, from one row of the left image to the next: its width, or twice it
    const int32_t* variance_offset;  // of each map's sqrt(v) among all maps; 1/sqrt(v) follows it
    int32_t map_size;                // entries of all variance maps of one image, both kinds
    int32_t left_size;               // entries of a left image's maps: a copy of a map for every scale it is read with
    int32_t n_readouts;
    int32_t n_slots;
    const int64_t* slot_offset;  // entries (of lanes) before each slot's S; its T follows
    const int64_t* slot_size;
    int32_t n_globals;
    const int64_t* global_offset;
    const int64_t* global_size;
    int64_t row_buffer;  // entries of slots and globals, which come first in the scratch memory of one left image
    int64_t scratch;     // entries of those of all left images carried together, and of one row buffer
    int32_t n_levels;
    const Level* levels;
};

// What one instruction set offers, for float and double. Arrays are C-contiguous and 64-byte aligned where they hold
// lanes. `scratch` holds program.scratch vectors of lanes.
template <class Real>
struct Kernels {
    // Variance maps of the images of groups [first, last): images (groups, h w c, lanes) -> maps (groups, map_size, lanes).
    void (*variances)(const Program&, const Real* images, int64_t first, int64_t last, Real* maps, Real* scratch);
    // Readouts of rows [row_first, row_last) of x1 with groups [first, last) of x2. x1 is (n, h w c) with maps (n,
    // left_size), x2 and its maps are in lanes; out is (readouts, 2, rows, (last - first) lanes), S then T.
    void (*tile)(const Program&, const Real* x1, const Real* maps1, int64_t row_first, int64_t row_last, const Real* x2,
                 const Real* maps2, int64_t first, int64_t last, double* out, Real* scratch);
};

struct InstructionSet {
    const char* name;
    int32_t vector_floats;
    // Runs 12 x `rounds` independent fused multiply-adds of native float vectors, in registers only: the machine's bound.
    float (*burn)(int64_t rounds);
    Kernels<float> single;
    Kernels<double> real;
};

}  // namespace nas_cntk
