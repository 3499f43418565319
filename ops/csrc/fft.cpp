#include "fft.h"

#include <cmath>
#include <complex>

namespace deepthin {
namespace {

using Point = std::complex<double>;
using Angles = std::vector<double>;  // in turns, by node

Point root(double angle) {
  const double radians = 2 * 3.14159265358979323846 * angle;
  return {std::cos(radians), std::sin(radians)};
}

struct Shape {
  size_t points = 0, levels = 0;
  size_t radix[kMaxFftLevels] = {};
  double operations = 0;
};

// Vector operations per point of one level there and back, with its loads and stores.
double level_operations(size_t radix) { return radix == 2 ? 9 : radix == 3 ? 17 : radix == 4 ? 15 : 26; }

// Levels for odd * 2^twos points, those of odd factors first, where nodes are few. The last is always a 4.
Shape shape_of(size_t odd, size_t twos) {
  Shape shape;
  shape.points = odd << twos;
  const auto take = [&](size_t radix) {
    shape.radix[shape.levels++] = radix;
    shape.operations += level_operations(radix) * double(shape.points);
  };
  for (; odd % 5 == 0; odd /= 5) take(5);
  for (; odd % 3 == 0; odd /= 3) take(3);
  if (twos % 2) take(2);
  for (; twos > 1; twos -= 2) take(4);
  return shape;
}

Shape choose_shape(size_t values, size_t lanes, Fft::Lanes use) {
  const bool across = use == Fft::Lanes::kAcross;
  const size_t wanted = chunks_of(chunks_of(values, 2), across ? lanes : 1);
  // The product and the copies in and out; across the lanes also their levels and four transpositions.
  double once = 12;
  if (across) {
    once += 16;
    for (size_t left = lanes; left > 1; left /= 2) once += 7;
  }
  Shape best;
  for (const size_t odd : {1, 3, 5, 9, 15, 25, 27, 45, 75}) {
    size_t twos = 2;
    while (odd << twos < wanted) ++twos;
    Shape shape = shape_of(odd, twos);
    shape.operations += once * double(shape.points);
    if (!best.points || shape.operations < best.operations) best = shape;
  }
  return best;
}

// Multiplications and additions of a butterfly there and back: those of kernels_fft.inl.
struct Flops {
  double split, join;
};
Flops flops_of(size_t radix) {
  switch (radix) {
    case 2:
      return {12, 10};
    case 3:
      return {28, 28};
    case 4:
      return {48, 34};
    default:
      return {76, 76};
  }
}

Angles children(const Angles& angles, size_t radix) {
  Angles found;
  for (const double angle : angles)
    for (size_t j = 0; j < radix; ++j) {
      // A 4 is two levels of 2, in their order.
      const size_t turn = radix == 4 ? j % 2 * 2 + j / 2 : j;
      found.push_back((angle + double(turn)) / double(radix));
    }
  return found;
}

// Splits every node, from angles `from` to angles `to`, in place.
void split(std::vector<Point>& values, const Angles& from, const Angles& to) {
  const size_t radix = to.size() / from.size(), length = values.size() / to.size();
  std::vector<Point> in(radix);
  for (size_t node = 0; node < from.size(); ++node) {
    Point* a = values.data() + node * radix * length;
    for (size_t k = 0; k < length; ++k) {
      for (size_t s = 0; s < radix; ++s) in[s] = a[s * length + k];
      for (size_t j = 0; j < radix; ++j) {
        const Point w = root(to[node * radix + j]);
        Point sum = in[radix - 1];
        for (size_t s = radix - 1; s > 0; --s) sum = sum * w + in[s - 1];
        a[j * length + k] = sum;
      }
    }
  }
}

}  // namespace

Fft::Fft(size_t values, size_t lanes, Lanes use, const float* Wf, size_t r, size_t n) {
  const Shape shape = choose_shape(values, lanes, use);
  const bool across = use == Lanes::kAcross;
  const size_t width = across ? lanes : 1, groups = across ? chunks_of(shape.points, lanes) : 0;
  view_.points = shape.points;
  view_.length = shape.points * width;
  view_.levels = shape.levels;
  view_.buffer = (across ? groups * lanes : shape.points) * 2 * lanes;

  // Angles of the nodes before each level, those across the lanes included.
  std::vector<Angles> angles{{0.25}};
  for (size_t i = 0; i < shape.levels; ++i) angles.push_back(children(angles.back(), shape.radix[i]));
  for (size_t left = width; left > 1; left /= 2) angles.push_back(children(angles.back(), 2));

  std::vector<size_t> starts;
  for (size_t i = 0; i < shape.levels; ++i) {
    starts.push_back(twiddles_.size());
    for (const double angle : angles[i])
      for (size_t s = 1; s < shape.radix[i]; ++s) {
        const Point w = root(angle * double(s) / double(shape.radix[i]));
        twiddles_.push_back(float(w.real()));
        twiddles_.push_back(float(w.imag()));
      }
  }
  for (size_t i = 0, length = shape.points; i < shape.levels; length /= shape.radix[i++])
    view_.level[i] = {shape.radix[i], length, twiddles_.data() + starts[i]};

  // Of two neighbouring nodes only the first's twiddle is stored: the other's is i times it.
  if (across) across_.assign(groups * lanes * lanes, 0.0f);
  for (size_t point = 0; across && point < shape.points; ++point) {
    float* group = across_.data() + point / lanes * lanes * lanes + point % lanes;
    for (size_t nodes = 1; nodes < lanes; nodes *= 2) {
      const Angles& level = angles[shape.levels + size_t(std::log2(nodes))];
      for (size_t node = 0; node < nodes; node += 2, group += 2 * lanes) {
        const Point w = root(level[point * nodes + node] / 2);
        group[0] = float(w.real());
        group[lanes] = float(w.imag());
      }
    }
  }
  view_.across = across_.data();

  view_.spectrum_floats = across ? groups * lanes * lanes * 2 : 2 * shape.points;
  spectrum_.assign(r * view_.spectrum_floats, 0.0f);
  for (size_t rank = 0; rank < r; ++rank) {
    std::vector<Point> points(view_.length);
    for (size_t s = 0; s < n; ++s) {
      const double value = Wf[rank * n + n - 1 - s] / double(view_.length);
      points[s % view_.length] += s < view_.length ? Point(value, 0) : Point(0, value);
    }
    for (size_t i = 0; i + 1 < angles.size(); ++i) split(points, angles[i], angles[i + 1]);
    float* out = spectrum_.data() + rank * view_.spectrum_floats;
    for (size_t i = 0; i < view_.length; ++i) {
      const size_t point = i / width;
      float* to = across ? out + (point / lanes * lanes + i % width) * 2 * lanes + point % lanes : out + 2 * i;
      to[0] = float(points[i].real());
      to[across ? lanes : 1] = float(points[i].imag());
    }
  }
  view_.spectrum = spectrum_.data();

  join_flops_ = 6 * double(view_.length);
  for (size_t i = 0; i + 1 < angles.size(); ++i) {
    const size_t radix = angles[i + 1].size() / angles[i].size();
    split_flops_ += flops_of(radix).split * double(view_.length / radix);
    join_flops_ += flops_of(radix).join * double(view_.length / radix);
  }
}

double Fft::operations(size_t values, size_t lanes, Lanes use, size_t r) {
  return choose_shape(values, lanes, use).operations * (1 + double(r)) / 2;
}

}  // namespace deepthin
