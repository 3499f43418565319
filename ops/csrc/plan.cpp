#include "plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <string>

#include "half.h"
#include "path.h"

namespace deepthin {
namespace {

// Longer signals would leave every cache at every level.
constexpr size_t kMostTransformed = size_t{1} << 17;

// What an operation of a row, or of a block of rows, takes by that of a block's entry: of taps, of a transform, for a vector
// of factors and for an output. Measured with AVX2 (`deepthin bench paths`, ops/costs.py).
struct Weights {
  double tap, transform, entry, output;
};
constexpr Weights kRow{1.6, 1.1, 1.5, 5}, kLanes{1.4, 1.15, 1, 18};

double entries_of(size_t Q, size_t R, size_t n, size_t r) {
  return double(r) * (double(Q) * double(R) / double(n) + double(R));
}

}  // namespace

PathCosts estimate(const Kernels& kernels, size_t Q, size_t R, size_t n, size_t r, bool in_lanes, bool narrow) {
  const size_t lanes = kernels.lanes, offsets = Q + n - 1;
  const ForcedPath forced = ForcedPath::from_environment();
  const Weights& weights = in_lanes ? kLanes : kRow;
  PathCosts costs{};
  costs.correlation = weights.tap * double(r * n) * double(Q) / (in_lanes ? 1 : double(lanes));
  if (offsets <= kMostTransformed) {
    const Fft::Lanes use = in_lanes ? Fft::Lanes::kRows : Fft::Lanes::kAcross;
    const double fft = weights.transform * Fft::operations(offsets, lanes, use, r);
    costs.transformed = forced.fft.value_or(fft < costs.correlation);
    if (costs.transformed) costs.correlation = fft;
  }
  const double padding = narrow ? 1 : double(round_up(n, lanes)) / double(n), entries = entries_of(Q, R, n, r);
  costs.band = entries * (in_lanes ? 1 : padding / double(lanes)) * weights.entry + double(R) * weights.output;
  return costs;
}

size_t fewest_lanes(const Kernels& kernels, const PathCosts& row, const PathCosts& block) {
  if (const auto forced = ForcedPath::from_environment().lanes) return *forced ? 1 : SIZE_MAX;
  return std::clamp(size_t(std::ceil(1.1 * block.both() / row.both())), size_t{2}, kernels.lanes);
}

void check_fills(size_t Q, size_t R, size_t m, size_t n) {
  // None is above 2^31, so that neither product overflows.
  if (m * n < Q * R)
    throw std::invalid_argument("factors of " + std::to_string(m) + " x " + std::to_string(n) +
                                " values cannot fill a " + std::to_string(Q) + " x " + std::to_string(R) + " matrix");
}

Plan::Plan(const Kernels& kernels, size_t Q, size_t R, size_t m, size_t n, size_t r, const float* Xf, const float* Wf,
           Precision precision)
    : kernels_(&kernels) {
  if (!Q || !R || !m || !n || !r) throw std::invalid_argument("Q, R, m, n and r must all be at least 1");
  check_fills(Q, R, m, n);
  view_.Q = Q;
  view_.R = R;
  view_.m = m;
  view_.n = n;
  view_.r = r;
  view_.period = n / std::gcd(n, Q);
  view_.max_count = chunks_of(view_.offsets(), n);
  if (round_up(n, kernels.lanes) > 2 * std::min(R, view_.period))
    path_ = n <= R && n < 4 * kernels.lanes ? Path::kNarrow : Path::kDirect;
  // Ways that read the factors where they lie need them as float.
  if (precision.half_Xf && path_ != Path::kPacked) own_Xf_.assign(Xf, Xf + m * r);
  if (precision.half_Wf && direct()) own_Wf_.assign(Wf, Wf + r * n);
  if (direct()) {
    work_ = r * Q * R;
    return;
  }
  const PathCosts row = estimate(kernels, Q, R, n, r, false, narrow()), block = estimate(kernels, Q, R, n, r, true);
  work_ = size_t(row.both()) * kernels.lanes;
  fewest_lanes_ = deepthin::fewest_lanes(kernels, row, block);
  if (row.transformed) row_fft_.emplace(view_.offsets(), kernels.lanes, Fft::Lanes::kAcross, Wf, r, n);
  if (block.transformed) rows_fft_.emplace(view_.offsets(), kernels.lanes, Fft::Lanes::kRows, Wf, r, n);
  find_outputs(Wf);
  if (!narrow()) {
    pack(Xf, precision.half_Xf);
  } else if (r > 1) {
    ranks_.resize(r * m);
    for (size_t j = 0; j < r; ++j)
      for (size_t i = 0; i < m; ++i) ranks_[j * m + i] = Xf[i * r + j];
  }
}

PlanView Plan::view(const float* Xf, const float* Wf) const {
  PlanView view = view_;
  view.Xf = own_Xf_.empty() ? Xf : own_Xf_.data();
  view.Wf = own_Wf_.empty() ? Wf : own_Wf_.data();
  view.ranks = ranks_.empty() ? view.Xf : ranks_.data();
  view.row_fft = row_fft_ ? &row_fft_->view() : nullptr;
  view.rows_fft = rows_fft_ ? &rows_fft_->view() : nullptr;
  view.first_output = first_output_.data();
  view.taps = taps_.data();
  view.packed = packed_.data();
  view.packed_half = packed_half_.empty() ? nullptr : packed_half_.data();
  view.packed_offset = packed_offset_.data();
  view.packed_output = packed_output_.data();
  view.position = position_.data();
  return view;
}

PlanCosts Plan::costs(bool in_lanes) const {
  const double rows = in_lanes ? double(kernels_->lanes) : 1;
  const std::optional<Fft>& fft = in_lanes ? rows_fft_ : row_fft_;
  PlanCosts costs{};
  costs.correlation_flops = rows * (fft ? fft->flops(view_.r) : 2 * double(view_.r * view_.n) * double(view_.Q));
  costs.band_flops = rows * 2 * entries_of(view_.Q, view_.R, view_.n, view_.r);
  costs.bytes = (fft ? double(fft->bytes()) : double(view_.r * view_.n * sizeof(float))) +
                double(packed_half_.size() * sizeof(uint16_t)) +
                double((narrow() ? view_.r * view_.m : packed_.size()) * sizeof(float));
  return costs;
}

size_t Plan::bytes() const {
  size_t total = 0;
  const auto add = [&](const auto& values) { total += values.size() * sizeof(values[0]); };
  for (const auto* values : {&taps_, &packed_, &ranks_, &own_Xf_, &own_Wf_}) add(*values);
  add(first_output_);
  add(packed_half_);
  add(packed_offset_);
  add(packed_output_);
  add(position_);
  for (const auto* fft : {&row_fft_, &rows_fft_}) total += *fft ? (*fft)->bytes() : 0;
  return total;
}

void Plan::find_outputs(const float* Wf) {
  const size_t lanes = kernels_->lanes, Q = view_.Q, n = view_.n, r = view_.r;
  first_output_.assign(n, -1);
  for (size_t c = 0; c < std::min(view_.R, view_.period); ++c) first_output_[n - 1 - c * Q % n] = static_cast<int32_t>(c);
  view_.taps_stride = round_up(n, lanes);
  taps_.assign(r * view_.taps_stride, 0.0f);
  for (size_t j = 0; j < r; ++j) std::copy_n(Wf + j * n, n, taps_.begin() + j * view_.taps_stride);
}

void Plan::pack(const float* Xf, bool half) {
  const size_t lanes = kernels_->lanes, Q = view_.Q, n = view_.n, r = view_.r;

  // How many outputs read a phase, and how many offsets each of them reads.
  const auto outputs_of = [&](size_t phase) -> size_t {
    if (phase >= n || first_output_[phase] < 0) return 0;
    return chunks_of(view_.R - size_t(first_output_[phase]), view_.period);
  };
  const auto count_of = [&](size_t phase) { return chunks_of(view_.offsets() - phase, n); };

  view_.groups = chunks_of(n, lanes);
  packed_offset_.assign(1, 0);
  packed_output_.assign(1, 0);
  position_.resize(view_.R);
  for (size_t g = 0; g < view_.groups; ++g) {
    size_t total = 0, count = 0;
    for (size_t lane = 0; lane < lanes; ++lane) {
      const size_t phase = g * lanes + lane, outputs = outputs_of(phase);
      total = std::max(total, outputs);
      if (outputs) count = std::max(count, count_of(phase));
      for (size_t s = 0; s < outputs; ++s)
        position_[size_t(first_output_[phase]) + s * view_.period] =
            static_cast<uint32_t>((packed_output_.back() + s) * lanes + lane);
    }
    packed_output_.push_back(static_cast<uint32_t>(packed_output_.back() + total));
    packed_offset_.push_back(packed_offset_.back() + total * count * r * lanes);
  }

  packed_.assign(packed_offset_.back(), 0.0f);
  for (size_t g = 0; g < view_.groups; ++g) {
    const size_t total = packed_output_[g + 1] - packed_output_[g];
    if (!total) continue;
    const size_t count = (packed_offset_[g + 1] - packed_offset_[g]) / (total * r * lanes);
    const size_t chunks = chunks_of(total, kRowChunk);
    float* out = packed_.data() + packed_offset_[g];
    for (size_t i = 0; i < chunks; ++i)
      for (size_t j = 0; j < r; ++j)
        for (size_t k = 0; k < count; ++k)
          for (size_t s = total * i / chunks; s < total * (i + 1) / chunks; ++s)
            for (size_t lane = 0; lane < lanes; ++lane, ++out) {
              const size_t phase = g * lanes + lane;
              if (s >= outputs_of(phase) || k >= count_of(phase)) continue;
              const size_t c = size_t(first_output_[phase]) + s * view_.period;
              *out = Xf[(c * Q / n + k) * r + j];
            }
  }
  if (half) {
    packed_half_.resize(packed_.size());
    std::transform(packed_.begin(), packed_.end(), packed_half_.begin(), float_to_half);
    std::vector<float>().swap(packed_);  // which assigning nothing would keep room for
  }
}

}  // namespace deepthin
