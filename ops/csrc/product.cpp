#include "product.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "slices.h"

namespace deepthin {

size_t Product::rows_per_task(size_t count) const {
  const size_t lanes = plan_.kernels().lanes;
  if (!use_lanes(count)) return 1;
  return chunks_of(count, kMaxPlanes * lanes) >= processors() ? kMaxPlanes * lanes : lanes;
}

size_t Product::scratch_floats(size_t count) const {
  if (plan_.direct()) return 0;
  const PlanView view = plan_.view(nullptr, nullptr);
  const size_t lanes = plan_.kernels().lanes;
  const auto rounded = ScratchPool::Buffer::rounded;
  const auto transformed = [&](const FftView* fft, size_t planes) {
    return fft ? (view.r > 1 ? planes + 1 : 1) * rounded(fft->buffer) : 0;
  };
  const size_t row = std::max(rounded(padded_row_floats(view, lanes)), transformed(view.row_fft, 1)) + rounded(view.r * row_offsets_floats(view, lanes)) +
                     rounded(plan_.narrow() ? view.r * view.n * phase_stride(view)
                                            : view.packed_output[view.groups] * lanes);
  if (!use_lanes(count)) return row;
  const size_t planes = count > lanes ? kMaxPlanes : 1;
  const size_t input = std::max(rounded(lane_input_floats(view, lanes)), transformed(view.rows_fft, planes));
  return std::max(row, input + rounded(lane_offsets_floats(view, lanes, planes)) +
                           rounded(view.R * planes * lanes));
}

void Product::multiply(const PlanView& view, Rows<const float> x, size_t count, const Epilogue& epilogue,
                       Rows<float> y, const Parallel& parallel) const {
  const size_t step = rows_per_task(count), tasks = count ? chunks_of(count, step) : 0;
  const bool share = processors() > 1 && plan_.work() * count >= kWorthSharing;
  if (share && tasks >= processors()) {
    parallel(tasks, [&](size_t i) {
      ScratchPool::Buffer buffer(*pool_, scratch_floats(step));
      multiply_here(view, x, i * step, std::min(step, count - i * step), epilogue, y, buffer.take(0));
    });
    return;
  }
  ScratchPool::Buffer buffer(*pool_, scratch_floats(step));
  float* scratch = buffer.take(0);
  const Parallel* slices = share ? &parallel : nullptr;
  for (size_t first = 0; first < count; first += step)
    block(view, x, first, std::min(step, count - first), epilogue, y, scratch, slices);
}

void Product::multiply_here(const PlanView& view, Rows<const float> x, size_t first, size_t count,
                            const Epilogue& epilogue, Rows<float> y, float* scratch) const {
  block(view, x, first, count, epilogue, y, scratch, nullptr);
}

void Product::block(const PlanView& view, Rows<const float> x, size_t first, size_t count, const Epilogue& epilogue,
                    Rows<float> y, float* scratch, const Parallel* parallel) const {
  // The rows that are left over when lanes are filled may be too few for a block of their own.
  const size_t over = count % plan_.kernels().lanes;
  const size_t side_by_side = !use_lanes(count) ? 0 : use_lanes(over) ? count : count - over;
  if (side_by_side) lane_rows(view, x, first, side_by_side, epilogue, y, scratch, parallel);
  for (size_t i = first + side_by_side; i < first + count; ++i) one_row(view, x[i], epilogue, y[i], scratch, parallel);
}

void Product::correlate_row(const PlanView& view, const float* x, float* offsets, size_t stride, Pieces pieces,
                            const Parallel* parallel) const {
  const Kernels& kernels = plan_.kernels();
  const size_t block = kBlock * kernels.lanes, blocks = chunks_of(view.offsets(), block);
  const size_t size = padded_row_floats(view, kernels.lanes);
  float* padded = pieces(size);
  std::fill_n(padded, view.n - 1, 0.0f);
  std::memcpy(padded + view.n - 1, x, view.Q * sizeof(float));
  std::fill(padded + view.offsets(), padded + size, 0.0f);
  sliced(parallel, view.r * blocks, 1, [&](size_t first, size_t last) {
    for (size_t i = first; i < last; ++i) {
      const size_t j = i / blocks, start = i % blocks * block;
      kernels.correlate_row(view, j, padded, offsets + j * stride, start, start + 1);
    }
  });
}

void Product::transform_row(const PlanView& view, const float* x, float* offsets, size_t stride, Pieces pieces) const {
  const Kernels& kernels = plan_.kernels();
  const FftView& fft = *view.row_fft;
  float* z = pieces(fft.buffer);
  float* work = view.r > 1 ? pieces(fft.buffer) : z;
  kernels.fft_row_split(fft, x, view.Q, z);
  for (size_t j = 0; j < view.r; ++j) kernels.fft_row_join(fft, j, z, work, offsets + j * stride, view.offsets());
}

void Product::one_row(const PlanView& view, const float* x, const Epilogue& epilogue, float* y, float* scratch,
                      const Parallel* parallel) const {
  const Kernels& kernels = plan_.kernels();
  const size_t lanes = kernels.lanes;
  if (plan_.direct()) {
    sliced(parallel, view.R, lanes, [&](size_t first, size_t last) { kernels.direct(view, x, epilogue, y, first, last); });
    return;
  }
  Pieces pieces(scratch);
  const size_t stride = row_offsets_floats(view, lanes);
  float* offsets = pieces(view.r * stride);
  if (view.row_fft)
    transform_row(view, x, offsets, stride, pieces);
  else
    correlate_row(view, x, offsets, stride, pieces, parallel);
  // The band reads past the last offset, against zeros in the packed factors: what it reads there must be finite.
  for (size_t j = 0; j < view.r; ++j)
    std::fill(offsets + j * stride + view.offsets(), offsets + (j + 1) * stride, 0.0f);
  if (plan_.narrow()) {
    float* phases = pieces(view.r * view.n * phase_stride(view));
    for (size_t j = 0; j < view.r; ++j)
      for (size_t phase = 0; phase < view.n; ++phase) {
        const float* from = offsets + j * stride + phase;
        float* to = phases + (j * view.n + phase) * phase_stride(view);
        for (size_t k = 0, count = chunks_of(view.offsets() - phase, view.n); k < count; ++k) to[k] = from[k * view.n];
      }
    sliced(parallel, view.R, lanes,
           [&](size_t first, size_t last) { kernels.narrow_row(view, phases, epilogue, y, first, last); });
    return;
  }
  float* packed = pieces(view.packed_output[view.groups] * lanes);
  sliced(parallel, view.groups, 1,
         [&](size_t first, size_t last) { kernels.band_row(view, offsets, stride, packed, first, last); });
  kernels.finish_row(view, packed, epilogue, y);
}

void Product::lane_rows(const PlanView& view, Rows<const float> x, size_t first, size_t count,
                        const Epilogue& epilogue, Rows<float> y, float* scratch, const Parallel* parallel) const {
  const Kernels& kernels = plan_.kernels();
  const size_t lanes = kernels.lanes, planes = count > lanes ? 2 : 1;
  Pieces pieces(scratch);
  float* offsets = pieces(lane_offsets_floats(view, lanes, planes));
  float* output = pieces(view.R * planes * lanes);
  const FftView* fft = view.rows_fft;
  float *input = nullptr, *z[kMaxPlanes] = {}, *work = nullptr;
  if (fft) {
    work = pieces(fft->buffer);
    for (size_t plane = 0; plane < planes; ++plane) z[plane] = view.r > 1 ? pieces(fft->buffer) : work;
  } else {
    input = pieces(lane_input_floats(view, lanes));
    std::fill_n(input, kBlock * lanes, 0.0f);
    std::fill_n(input + (kBlock + view.Q) * lanes, kBlock * lanes, 0.0f);
  }

  for (size_t j = 0; j < view.r; ++j) {
    for (size_t plane = 0; plane < planes; ++plane) {
      const float* rows[kMaxLanes];
      for (size_t i = 0; i < lanes; ++i) rows[i] = x[first + std::min(plane * lanes + i, count - 1)];
      if (fft) {
        if (j == 0) kernels.fft_rows_split(*fft, rows, view.Q, z[plane]);
        kernels.fft_rows_join(*fft, view, j, z[plane], work, offsets, planes, plane);
        continue;
      }
      // One plane's input is held at a time: reading it again for the next rank costs less than the cache it would fill.
      if (j == 0 || planes > 1) kernels.load_lanes(view.Q, rows, input + kBlock * lanes, lanes);
      sliced(parallel, view.offsets(), kBlock, [&](size_t from, size_t to) {
        kernels.correlate_lanes(view, j, input, offsets, planes, plane, from, to);
      });
    }
    if (plan_.narrow())
      sliced(parallel, chunks_of(view.R, view.period), lanes,
             [&](size_t from, size_t to) { kernels.narrow_lanes(view, j, offsets, planes, output, from, to); });
    else
      sliced(parallel, view.groups, 1,
             [&](size_t from, size_t to) {
               // Threads unpack the factors of the groups that they take.
               std::optional<ScratchPool::Buffer> unpacked;
               if (view.packed_half) unpacked.emplace(*pool_, unpacked_floats(view));
               kernels.band_lanes(view, j, offsets, planes, unpacked ? unpacked->take(0) : nullptr, output, from, to);
             });
  }
  for (size_t plane = 0; plane < planes; ++plane) {
    float* rows[kMaxLanes];
    const size_t valid = std::min(lanes, count - plane * lanes);
    for (size_t i = 0; i < valid; ++i) rows[i] = y[first + plane * lanes + i];
    kernels.store_lanes(view.R, output + plane * lanes, planes * lanes, epilogue, rows, valid);
  }
}

}  // namespace deepthin
