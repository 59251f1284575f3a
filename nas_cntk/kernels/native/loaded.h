// Reads a program from the two flat arrays that nas_cntk/kernels/plan.py writes.
#pragma once

#include <cstddef>
#include <memory>
#include <stdexcept>
#include <vector>

#include "program.h"

namespace nas_cntk {

// Reads the two flat arrays that plan.py wrote, in order, and keeps them alive.
class Loaded {
  public:
    Loaded(const int32_t* integers, size_t n_integers, const double* reals, size_t n_reals)
        : integers_(integers, integers + n_integers), reals_(reals, reals + n_reals), singles_(reals, reals + n_reals) {
        program.h = next();
        program.w = next();
        program.c = next();
        program.n_variances = next();
        program.variance_h = take(program.n_variances);
        program.variance_w = take(program.n_variances);
        program.left_step = take(program.n_variances);
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
    // Where S of every storage begins and how many entries it has; T follows. Sizes come as rows and columns.
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
            op.n_heads = next();
            op.heads = take(op.n_heads);
            op.head_coefficient = take_reals(op.n_heads);
        }
        for (int axis = 0; axis < 2; ++axis) {
            const int32_t groups = axis == 0 ? level.n_row_groups : level.n_column_groups;
            for (Instruction& op : list) {
                auto& tables = *axes_.emplace_back(std::make_unique<std::vector<Axis>>(groups));
                for (Axis& table : tables) read_axis(op, axis, table);
                (axis == 0 ? op.rows : op.columns) = tables.data();
            }
        }
        level.instructions = list.data();
    }

    void read_axis(const Instruction& op, int axis, Axis& table) {
        table = Axis{};
        if (op.kind == layer_kind) {
            table.n_relu = next();
            next();
            table.in_stride = take(op.n_in);
            table.left = take(table.n_relu);
            table.right = take(table.n_relu);
            table.in = take(table.n_relu);
            table.head_here = take(op.n_heads);
            table.head_weight_single = singles_.data() + real_;
            table.head_weight = take_reals(int64_t(op.n_heads) * table.n_relu);
            if (op.flags & no_output) return;
            table.n = next();
            table.out_stride = next();
            read_linear(table);
            table.n_segments = next();
            table.segments = take(table.n_segments ? table.n_segments + 1 : 0);
            find_second(op, axis, table);
            table.pointwise = table.n == table.n_relu && table.start[table.n] == table.n && table.width == 1;
            for (int32_t k = 0; table.pointwise && k < table.n; ++k) table.pointwise = table.list[k] == k && table.weight[k] == 1;
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
            case linear_kind:
                read_linear(table);
                table.n_segments = next();
                if (table.n_segments) {
                    table.segments = take(table.n_segments + 1);
                    table.in = take(table.n);
                } else if (op.n_in > 1) {
                    throw std::logic_error("windows that do not slide have nothing added");
                }
                table.added = take(int64_t(op.n_in - 1) * table.n);
                break;
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

    void find_second(const Instruction& op, int axis, Axis& table) {
        if (table.n_segments != 2) return;
        const int32_t second = table.segments[1], side = (axis == 0 ? program.variance_h : program.variance_w)[op.u];
        const auto beside = [&](const int32_t* p) { return p[second] == p[second - 1] + 1; };
        if (!beside(table.in) || !beside(table.right) || !beside(table.out)) return;
        if (table.left[second] != 0 || table.left[second - 1] != side - 1) return;
        if (axis == 1 && program.left_step[op.u] != 2 * side) return;
        table.second = second;
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
    std::vector<float> singles_;  // the same numbers
    size_t integer_ = 0, real_ = 0;
    std::vector<int64_t> slot_offset_, slot_size_, global_offset_, global_size_;
    std::vector<Level> levels_;
    std::vector<std::unique_ptr<std::vector<Instruction>>> instructions_;
    std::vector<std::unique_ptr<std::vector<Axis>>> axes_;
};

}  // namespace nas_cntk
