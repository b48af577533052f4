// The two ways of asynchronous I/O; IoQueue::create() takes the first that works.
#pragma once

#include "disk/disk.h"

namespace vmhost::disk {

// The kernel's ring; fails where there is none or it is forbidden.
Result<std::unique_ptr<IoQueue>> create_ring_queue(Loop& loop, Image& image,
                                                   IoOptions options = {});
// The process's pool threads.
std::unique_ptr<IoQueue> create_pool_queue(Loop& loop, Image& image);

} // namespace vmhost::disk
