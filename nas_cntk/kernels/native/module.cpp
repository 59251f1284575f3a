// The Python module `nas_cntk.kernels._native`: reads a lowered program, chooses the instruction set, lends arrays.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "program.h"

namespace nb = nanobind;

namespace nas_cntk {

#if defined(__x86_64__)
extern const InstructionSet set_avx512, set_avx2, set_sse4;
#else
extern const InstructionSet set_neon;
#endif

namespace {

std::vector<const InstructionSet*> supported() {
    std::vector<const InstructionSet*> sets;  // best first
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        sets.push_back(&set_avx512);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
        sets.push_back(&set_avx2);
    sets.push_back(&set_sse4);
#else
    sets.push_back(&set_neon);
#endif
    return sets;
}

const InstructionSet& chosen() {
    const auto sets = supported();
    const char* wanted = std::getenv("NAS_CNTK_ISA");
    if (!wanted || !*wanted) return *sets.front();
    std::string names;
    for (const InstructionSet* set : sets) {
        if (std::string(wanted) == set->name) return *set;
        names += std::string(names.empty() ? "" : ", ") + set->name;
    }
    throw std::invalid_argument("NAS_CNTK_ISA is '" + std::string(wanted) + "'; this machine has " + names);
}

// Reads the two flat arrays that plan.py wrote, in order, and keeps them alive.
class Loaded {
  public:
    Loaded(nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig> integers, nb::ndarray<const double, nb::ndim<1>, nb::c_contig> reals)
        : integers_(integers.data(), integers.data() + integers.size()), reals_(reals.data(), reals.data() + reals.size()) {
        program.h = next();
        program.w = next();
        program.c = next();
        program.n_variances = next();
        program.variance_h = take(program.n_variances);
        program.variance_w = take(program.n_variances);
        program.variance_offset = take(program.n_variances);
        program.map_size = next();
        program.left_size = next();
        program.n_readouts = next();
        program.n_slots = next();
        program.n_globals = next();
        program.row_buffer = 0;
        sizes(program.n_slots, slot_offset_, slot_size_);
        sizes(program.n_globals, global_offset_, global_size_);
        program.slot_offset = slot_offset_.data();
        program.slot_size = slot_size_.data();
        program.global_offset = global_offset_.data();
        program.global_size = global_size_.data();
        program.row_buffer = program.scratch;
        program.scratch = together * program.row_buffer + next();
        program.n_levels = next();
        levels_.resize(program.n_levels);
        for (Level& level : levels_) read_level(level);
        program.levels = levels_.data();
        if (integer_ != integers_.size() || real_ != reals_.size()) throw std::logic_error("the program was not read to its end");
    }

    Loaded(const Loaded&) = delete;

    Program program{};

  private:
    int32_t next() { return integers_.at(integer_++); }
    const int32_t* take(int64_t n) {
        if (n < 0 || integer_ + n > integers_.size()) throw std::logic_error("the program ends early");
        const int32_t* p = integers_.data() + integer_;
        integer_ += n;
        return p;
    }
    const double* take_reals(int64_t n) {
        if (n < 0 || real_ + n > reals_.size()) throw std::logic_error("the program ends early");
        const double* p = reals_.data() + real_;
        real_ += n;
        return p;
    }
    // Entries of S then T of every storage; the caller's arrays of 32-bit integers hold each size in two halves.
    void sizes(int32_t n, std::vector<int64_t>& offset, std::vector<int64_t>& size) {
        for (int32_t k = 0; k < n; ++k) {
            const int64_t rows = next(), columns = next(), entries = apart(rows * columns);
            offset.push_back(program.scratch);
            size.push_back(entries);
            program.scratch += apart(2 * entries);
        }
    }

    void read_level(Level& level) {
        level.n_instructions = next();
        level.n_row_groups = next();
        level.n_column_groups = next();
        auto& list = *instructions_.emplace_back(std::make_unique<std::vector<Instruction>>(level.n_instructions));
        for (Instruction& op : list) {
            op.kind = Kind(next());
            op.flags = next();
            op.out = {next(), next()};
            op.n_in = next();
            op.in = reinterpret_cast<const Storage*>(take(2 * int64_t(op.n_in)));
            op.in_flags = take(op.n_in);
            op.left_offset = next();
            op.u = next();
            op.v = next();
            op.coefficient = take_reals(op.n_in);
        }
        for (int axis = 0; axis < 2; ++axis) {
            const int32_t groups = axis == 0 ? level.n_row_groups : level.n_column_groups;
            for (Instruction& op : list) {
                auto& tables = *axes_.emplace_back(std::make_unique<std::vector<Axis>>(groups));
                for (Axis& table : tables) read_axis(op, table);
                (axis == 0 ? op.rows : op.columns) = tables.data();
            }
        }
        level.instructions = list.data();
    }

    void read_axis(const Instruction& op, Axis& table) {
        table = Axis{};
        if (op.kind == layer_kind) {
            table.n_relu = next();
            next();
            table.in_stride = take(op.n_in);
            table.left = take(table.n_relu);
            table.right = take(table.n_relu);
            table.in = take(table.n_relu);
            table.n = next();
            table.out_stride = next();
            read_linear(table);
            table.n_segments = next();
            table.segments = take(table.n_segments ? table.n_segments + 1 : 0);
            return;
        }
        table.n = next();
        table.out_stride = next();
        table.in_stride = take(op.n_in);
        switch (op.kind) {
            case input_kind:
                table.out = take(table.n);
                table.left = take(table.n);
                table.right = take(table.n);
                break;
            case linear_kind: read_linear(table); break;
            case relu_kind:
                table.out = take(table.n);
                table.left = take(table.n);
                table.right = take(table.n);
                table.in = take(int64_t(op.n_in) * table.n);
                break;
            case sum_kind:
                table.out = take(table.n);
                table.in = take(int64_t(op.n_in) * table.n);
                break;
            case head_kind:
                table.in = take(table.n);
                table.weight = take_reals(table.n);
                break;
            case variance_kind:
                table.in = take(table.n);
                table.left = take(table.n);
                break;
            default: throw std::logic_error("an unknown instruction");
        }
    }

    void read_linear(Axis& table) {
        table.out = take(table.n);
        table.n_used = next();
        table.width = next();
        table.used = take(table.n_used);
        table.start = take(table.n + 1);
        table.list = take(next());
        table.weight = take_reals(table.n);
    }

    std::vector<int32_t> integers_;
    std::vector<double> reals_;
    size_t integer_ = 0, real_ = 0;
    std::vector<int64_t> slot_offset_, slot_size_, global_offset_, global_size_;
    std::vector<Level> levels_;
    std::vector<std::unique_ptr<std::vector<Instruction>>> instructions_;
    std::vector<std::unique_ptr<std::vector<Axis>>> axes_;
};

template <class R>
struct Scratch {
    explicit Scratch(const Program& program)
        : p(static_cast<R*>(std::aligned_alloc(cache_line, size_t(program.scratch + 1) * cache_line))) {
        if (!p) throw std::bad_alloc();
    }
    ~Scratch() { std::free(p); }
    R* p;
};

template <class R>
const Kernels<R>& kernels_of(const InstructionSet& set) {
    if constexpr (sizeof(R) == 4)
        return set.single;
    else
        return set.real;
}

template <class R>
using In = nb::ndarray<const R, nb::c_contig, nb::device::cpu>;
template <class R>
using Out = nb::ndarray<R, nb::c_contig, nb::device::cpu>;

template <class R>
void variances(const Loaded& loaded, In<R> images, int64_t first, int64_t last, Out<R> maps) {
    const Kernels<R>& kernels = kernels_of<R>(chosen());
    nb::gil_scoped_release release;
    Scratch<R> scratch(loaded.program);
    kernels.variances(loaded.program, images.data(), first, last, maps.data(), scratch.p);
}

template <class R>
void tile(const Loaded& loaded, In<R> x1, In<R> maps1, int64_t row_first, int64_t row_last, In<R> x2, In<R> maps2, int64_t first,
          int64_t last, Out<double> out) {
    const Kernels<R>& kernels = kernels_of<R>(chosen());
    nb::gil_scoped_release release;
    Scratch<R> scratch(loaded.program);
    kernels.tile(loaded.program, x1.data(), maps1.data(), row_first, row_last, x2.data(), maps2.data(), first, last, out.data(), scratch.p);
}

}  // namespace

NB_MODULE(_native, m) {
    nb::class_<Loaded>(m, "Program")
        .def(nb::init<nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig>, nb::ndarray<const double, nb::ndim<1>, nb::c_contig>>())
        .def_prop_ro("scratch_vectors", [](const Loaded& loaded) { return loaded.program.scratch; });
    m.def("instruction_sets", [] {
        std::vector<std::string> names;
        for (const InstructionSet* set : supported()) names.push_back(set->name);
        return names;
    });
    m.def("instruction_set", [] { return std::string(chosen().name); });
    // Runs `rounds` of the burn test and returns how many floats it multiplied and added.
    m.def("burn", [](int64_t rounds) {
        const InstructionSet& set = chosen();
        nb::gil_scoped_release release;
        volatile float keep = set.burn(rounds);
        (void)keep;
        return double(rounds) * 12 * set.vector_floats;
    });
    m.def("variances", &variances<float>);
    m.def("variances", &variances<double>);
    m.def("tile", &tile<float>);
    m.def("tile", &tile<double>);
}

}  // namespace nas_cntk
