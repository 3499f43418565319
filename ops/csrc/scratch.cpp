#include "scratch.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace deepthin {

std::shared_ptr<ScratchPool> ScratchPool::shared() {
  static std::mutex mutex;
  static std::weak_ptr<ScratchPool> pool;
  const std::lock_guard<std::mutex> lock(mutex);
  std::shared_ptr<ScratchPool> held = pool.lock();
  if (!held) pool = held = std::make_shared<ScratchPool>();
  return held;
}

ScratchPool::~ScratchPool() {
  for (const Block& block : free_) ::operator delete[](block.data, kAlignment);
}

ScratchPool::Buffer::Buffer(ScratchPool& pool, size_t floats) : pool_(pool), data_(nullptr), size_(0) {
  const std::thread::id self = std::this_thread::get_id();
  Block block{nullptr, 0, self};
  {
    const std::lock_guard<std::mutex> lock(pool_.mutex_);
    pool_.free_.reserve(pool_.free_.capacity() ? pool_.free_.capacity() : 64);
    if (!pool_.free_.empty()) {
      const auto own = std::find_if(pool_.free_.rbegin(), pool_.free_.rend(),
                                    [&](const Block& free) { return free.last == self; });
      std::swap(own == pool_.free_.rend() ? pool_.free_.back() : *own, pool_.free_.back());
      block = pool_.free_.back();
      pool_.free_.pop_back();
    }
  }
  if (block.size < floats) {
    if (block.data) ::operator delete[](block.data, kAlignment);
    block.data = static_cast<float*>(::operator new[](floats * sizeof(float), kAlignment));
    block.size = floats;
  }
  data_ = block.data;
  size_ = block.size;
}

ScratchPool::Buffer::~Buffer() {
  const std::lock_guard<std::mutex> lock(pool_.mutex_);
  try {
    pool_.free_.push_back({data_, size_, std::this_thread::get_id()});
  } catch (...) {
    ::operator delete[](data_, kAlignment);
  }
}

float* ScratchPool::Buffer::take(size_t floats) {
  float* taken = data_ + used_;
  used_ += rounded(floats);
  if (used_ > size_) throw std::logic_error("a kernel took more working memory than it asked for");
  return taken;
}

}  // namespace deepthin
