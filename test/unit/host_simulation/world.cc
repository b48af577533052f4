#include "world.h"

#include <algorithm>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace vmhost::simulation {

// ---- the parent's end ------------------------------------------------------

VirtualChild::~VirtualChild() {
    if (process_->child != this)
        return;
    process_->child = nullptr;
    if (open_)
        world_.parent_closed(*process_);
}

void VirtualChild::send_frame(ipc::Frame frame) {
    if (open_ && life_.step(fmt::format("send {} to {}", frame.type, process_->launch.title)))
        world_.receive(*process_, std::move(frame));
}

void VirtualChild::close() {
    if (!open_ || !life_.step("close the channel of " + process_->launch.title))
        return;
    open_ = false;
    world_.parent_closed(*process_);
}

void VirtualChild::kill() {
    if (!life_.step("kill " + process_->launch.title))
        return;
    process_->asked = true;
    world_.later(*process_, 0, 5, [this_process = process_, &world = world_] {
        world.end_process(*this_process, "signal 9");
    });
}

void VirtualChild::take(ipc::Frame frame) {
    if (open_ && events_.frame)
        events_.frame(std::move(frame));
}

void VirtualChild::ended(const std::string& how) {
    open_ = false;
    if (auto ended = std::move(events_.ended))
        ended(how);
}

// ---- a parent --------------------------------------------------------------

bool Life::step(const std::string& what) {
    if (dead_)
        return false;
    ++world_.steps;
    world_.note(fmt::format("step {}: {}", world_.steps, what));
    if (world_.steps != world_.kill_at)
        return true;
    die();
    if (throws_)
        throw Killed{};
    return false;
}

void Life::die() {
    if (std::exchange(dead_, true))
        return;
    world_.note("the parent is killed");
    for (auto& process : world_.processes)
        if (process->child && process->child->of(*this)) {
            process->child->open_ = false;
            process->child = nullptr;
            world_.parent_closed(*process);
        }
}

namespace {
std::unexpected<Error> refused() {
    return fail(ErrorKind::internal, "the parent is dead");
}
} // namespace

Result<std::unique_ptr<host::RoleChild>> Life::start_role(Loop&, const host::Launch& launch,
                                                          host::RoleChild::Events events) {
    if (!step("start " + launch.title))
        return refused();
    if (world_.mishap(1))
        return fail(ErrorKind::io, "start {}: no process to be had", launch.title);
    auto child = std::make_unique<VirtualChild>(world_, *this, std::move(events));
    child->process_ = &world_.launch(launch, *child);
    return child;
}

std::uint64_t Life::start_ticks(pid_t pid) {
    return world_.find(pid) ? 5000 + static_cast<std::uint64_t>(pid) : 0;
}

Result<Fd> Life::open_process(pid_t pid, std::uint64_t ticks) {
    if (!step(fmt::format("look for process {}", pid)))
        return refused();
    if (ticks == 0 || start_ticks(pid) != ticks)
        return fail(ErrorKind::not_found, "process {} is no more", pid);
    return Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

std::unique_ptr<host::RoleChild> Life::adopt_role(Loop&, pid_t pid, Fd, Fd connection,
                                                  host::RoleChild::Events events) {
    auto child = std::make_unique<VirtualChild>(world_, *this, std::move(events));
    child->process_ = world_.find(pid); // it lived a moment ago, and time has not gone on
    child->open_ = step(fmt::format("adopt process {}", pid));
    if (!child->open_)
        return child;
    child->process_->child = child.get();
    if (connection)
        world_.greet(*child->process_);
    return child;
}

Result<std::unique_ptr<net::Links>> Life::open_links() {
    if (!step("open the links"))
        return refused();
    return std::make_unique<VirtualLinks>(
        world_.kernel, [this](const std::string& what, bool may_fail) -> Result<void> {
            if (!step(what))
                return refused();
            if (may_fail && world_.fail_at != 0 && world_.steps >= world_.fail_at) {
                world_.fail_at = 0;
                world_.note("which fails");
                return fail(ErrorKind::io, "{}: refused", what);
            }
            return {};
        });
}

Result<Fd> Life::lock_links(const std::string& host_name) {
    if (!step("lock the links"))
        return refused();
    if (auto lock = world_.kernel.bind("lock " + host_name))
        return std::move(*lock);
    return fail(ErrorKind::busy, "another vmhost of the name {} is at work", host_name);
}

Result<Fd> Life::open_kvm() {
    if (!step("open KVM"))
        return refused();
    return Fd(::open("/dev/null", O_RDWR | O_CLOEXEC));
}

Result<dhcp::Sockets> Life::open_dhcp(const std::string& bridge, unsigned index, Ipv4 address) {
    if (!step("open the sockets of DHCP on " + bridge))
        return refused();
    auto* device = world_.kernel.find(bridge);
    if (!device || device->link.index != index || !world_.kernel.has_address(address))
        return fail(ErrorKind::not_found, "DHCP on {}: no such bridge with {}", bridge,
                    address.text());
    auto udp = world_.kernel.bind("udp " + bridge);
    if (!udp)
        return fail(ErrorKind::busy, "DHCP on {}: somebody else serves there", bridge);
    dhcp::Sockets sockets;
    sockets.packet = TRY(udp->duplicate());
    sockets.udp = std::move(*udp);
    sockets.mac = device->link.mac;
    return sockets;
}

Result<Fd> Life::open_tftp(Ipv4 address, const std::string&) {
    if (!step("open TFTP on " + address.text()))
        return refused();
    if (!world_.kernel.has_address(address))
        return fail(ErrorKind::not_found, "TFTP on {}: no such address", address.text());
    if (auto socket = world_.kernel.bind("tftp " + address.text()))
        return std::move(*socket);
    return fail(ErrorKind::busy, "TFTP on {}: in use", address.text());
}

Result<ipv6::Sockets> Life::open_ipv6(const std::string& bridge, unsigned index) {
    if (!step("open the sockets of IPv6 on " + bridge))
        return refused();
    auto* device = world_.kernel.find(bridge);
    if (!device || device->link.index != index || !device->ipv6)
        return fail(ErrorKind::not_found, "IPv6 on {}: no such bridge", bridge);
    auto udp = world_.kernel.bind("udp6 " + bridge);
    if (!udp)
        return fail(ErrorKind::busy, "IPv6 on {}: somebody else serves there", bridge);
    ipv6::Sockets sockets;
    sockets.packet = TRY(udp->duplicate());
    sockets.udp = std::move(*udp);
    sockets.mac = device->link.mac;
    return sockets;
}

Result<Fd> Life::open_http(const IpAddress& address, std::uint16_t port, const std::string&) {
    if (!step("listen on " + address.text()))
        return refused();
    if (!address.is_unspecified() && address.is_ipv4() &&
        !world_.kernel.has_address(address.ipv4()))
        return fail(ErrorKind::not_found, "listen on {}: no such address", address.text());
    if (auto socket = world_.kernel.bind(fmt::format("tcp {}:{}", address.text(), port)))
        return std::move(*socket);
    return fail(ErrorKind::busy, "listen on {}:{}: in use", address.text(), port);
}

host::Users Life::users() {
    return {"root:x:0:0::/root:/bin/sh\n_vmhost:x:990:990::/:/bin/false\n"
            "alice:x:1000:1000::/:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n",
            "root:x:0:\nstaff:x:50:alice\n"};
}

std::int64_t Life::time_s() {
    return 1'800'000'000 + static_cast<std::int64_t>(world_.loop.now_ms() / 1000);
}

// ---- the world -------------------------------------------------------------

World::World(std::uint64_t seed) : random(seed) {
    for (const char* name : {"lo", "eth0", "eth1", "eth2", "eth3"})
        kernel.add_device(name, "", true);
    // Somebody else's, which nobody may touch.
    kernel.add_device("virbr0", "bridge", true);
    kernel.addresses.push_back(
        {kernel.find("virbr0")->link.index, parse_ipv4_prefix("192.168.122.1/24").value()});
}

World::~World() = default;

void World::note(const std::string& text) {
    auto line = fmt::format("{:10.3f} {}", static_cast<double>(loop.now_ms()) / 1000, text);
    for (unsigned char byte : line)
        hash_ = (hash_ ^ byte) * 0x100000001b3;
    if (verbose) {
        line += '\n';
        (void)!::write(STDERR_FILENO, line.data(), line.size());
    }
}

void World::after(std::uint64_t delay_ms, std::function<void()> job) {
    std::size_t at = 0;
    while (at < timers_.size() && timers_[at])
        ++at;
    if (at == timers_.size())
        timers_.emplace_back();
    timers_[at] = std::make_unique<Timer>(loop, [this, at, job = std::move(job)] {
        timers_[at].reset();
        job();
    });
    timers_[at]->start(std::chrono::milliseconds(delay_ms));
}

void World::later(Process& process, std::uint64_t min_ms, std::uint64_t max_ms,
                  std::function<void()> job) {
    after(random.between(min_ms, max_ms), [&process, job = std::move(job)] {
        if (process.alive)
            job();
    });
}

Process& World::launch(const host::Launch& launch, VirtualChild& child) {
    auto& process = *processes.emplace_back(std::make_unique<Process>());
    process.pid = next_pid_++;
    process.launch = launch;
    process.child = &child;
    note(fmt::format("{} is process {}", launch.title, process.pid));
    if (observer)
        observer->launched(process);
    if (mishap(2))
        later(process, 0, 200, [this, &process] {
            if (!fair)
                end_process(process, "signal 6");
        });
    return process;
}

void World::end_process(Process& process, const std::string& how) {
    note(fmt::format("process {} of {} ends: {}", process.pid, process.launch.title, how));
    process.alive = false;
    process.fds.clear();
    process.setup.reset();
    if (observer)
        observer->ended(process);
    // What it sent before its end arrives before the news of it.
    process.last_from_ms = std::max(process.last_from_ms, loop.now_ms() + random.below(4));
    after(process.last_from_ms - loop.now_ms(), [&process, how] {
        if (auto* child = std::exchange(process.child, nullptr))
            child->ended(how);
    });
}

// In order, and some time later.
void World::receive(Process& process, ipc::Frame frame) {
    process.last_to_ms = std::max(process.last_to_ms, loop.now_ms() + random.below(3));
    auto moved = std::make_shared<ipc::Frame>(std::move(frame));
    after(process.last_to_ms - loop.now_ms(), [this, &process, moved] {
        if (!process.alive || process.deaf)
            return;
        if (moved->type == ipc::Ping::type)
            return send(process, ipc::encode(ipc::Pong{}));
        if (process.launch.role == "vm")
            took_vm(process, std::move(*moved));
        else
            took_service(process, std::move(*moved));
    });
}

void World::send(Process& process, ipc::Frame frame, bool ready) {
    process.last_from_ms = std::max(process.last_from_ms, loop.now_ms() + random.below(3));
    auto moved = std::make_shared<ipc::Frame>(std::move(frame));
    after(process.last_from_ms - loop.now_ms(), [this, &process, moved, ready] {
        if (!process.child)
            return;
        if (ready && observer)
            observer->ready(process);
        process.child->take(std::move(*moved));
    });
}

// A role without its parent ends by itself.
void World::parent_closed(Process& process) {
    const bool is_vm = process.launch.role == "vm";
    if (!process.alive || (is_vm && outlive && process.setup && process.setup->listener))
        return;
    if (!is_vm && process.child && mishap(5))
        return; // it hangs, and is to be killed
    later(process, 0, 150, [this, &process] { end_process(process, "exit status 0"); });
}

void World::greet(Process& process) {
    while (Fd(::accept4(process.setup->listener->get(), nullptr, nullptr, SOCK_CLOEXEC))) {
    }
    process.deaf = process.deaf || mishap(2);
    const bool late = mishap(5); // to the parent, that is
    later(process, 0, late ? 60'000 : 50, [this, &process, number = ++process.greetings] {
        if (process.deaf || number != process.greetings)
            return;
        ipc::VmHello hello;
        hello.paused = process.paused;
        hello.stopping = process.asked;
        hello.overlaid = process.snapshotting;
        hello.console.ring = process.setup->console.ring.duplicate().value();
        send(process, ipc::encode(std::move(hello)));
    });
}

Process* World::find(pid_t pid) {
    for (auto& process : processes)
        if (process->alive && process->pid == pid)
            return process.get();
    return nullptr;
}

std::vector<Process*> World::living(const std::string& role) {
    std::vector<Process*> all;
    for (auto& process : processes)
        if (process->alive && process->launch.role == role)
            all.push_back(process.get());
    return all;
}

std::vector<Process*> World::living_vm(const std::string& name) {
    auto all = living("vm");
    std::erase_if(all, [&](Process* one) { return one->launch.title != "vm/" + name; });
    return all;
}

// ---- services --------------------------------------------------------------

void World::took_service(Process& process, ipc::Frame frame) {
    for (auto& fd : frame.fds)
        process.fds.push_back(std::move(fd));
    if (frame.type != ipc::Begin::type)
        return;
    later(process, 1, 300, [this, &process] {
        if (mishap(4)) {
            send(process, ipc::encode(ipc::Failed{3, "it does not work today"}));
            return end_process(process, "exit status 1");
        }
        process.state = Process::State::running;
        send(process, ipc::encode(ipc::Ready{}), true);
        if (mishap(15))
            later(process, 1000, 300'000, [this, &process] {
                if (!fair)
                    end_process(process, "signal 11");
            });
    });
}

// ---- VMs -------------------------------------------------------------------

void World::took_vm(Process& process, ipc::Frame frame) {
    switch (frame.type) {
    case ipc::VmSetup::type:
        if (auto setup = ipc::decode<ipc::VmSetup>(std::move(frame)))
            set_up(process, std::move(*setup));
        break;
    case ipc::VmTerminate::type:
        process.asked = true;
        process.state = Process::State::ending;
        if (!mishap(8)) // else it hangs
            later(process, 1, 60, [this, &process] { guest_ends(process, false, "terminated"); });
        break;
    case ipc::VmShutdown::type: {
        auto order = ipc::decode<ipc::VmShutdown>(std::move(frame)).value();
        process.asked = true;
        process.paused = false;
        process.state = Process::State::ending;
        if (mishap(8))
            break;
        auto most_ms = order.answer_ms + order.finish_ms;
        auto takes_ms =
            random.chance(20) ? most_ms : random.below(std::min<std::uint64_t>(most_ms, 9000) + 1);
        later(process, takes_ms, takes_ms,
              [this, &process] { guest_ends(process, false, "the guest powered itself off"); });
        break;
    }
    case ipc::VmPause::type:
        process.paused = true;
        later(process, 0, 20, [this, &process] { send(process, ipc::encode(ipc::VmPaused{})); });
        break;
    case ipc::VmUnpause::type:
        process.paused = false;
        break;
    case ipc::VmCount::type:
        if (!mishap(20))
            later(process, 0, 20,
                  [this, &process] { send(process, ipc::encode(ipc::VmCounted{})); });
        break;
    case ipc::VmMemoryTarget::type:
    case ipc::VmChangeMedium::type:
        answer(process);
        break;
    case ipc::VmSave::type: {
        for (auto& fd : frame.fds)
            process.fds.push_back(std::move(fd));
        bool done = !mishap(30);
        later(process, 5, 4000, [this, &process, done] { saved(process, done); });
        break;
    }
    case ipc::VmSnapshot::type:
        took_snapshot(process, std::move(frame.fds));
        break;
    case ipc::VmSnapshotEnd::type:
        process.snapshotting = false;
        break;
    default:
        note(fmt::format("{} does not know message {}", process.launch.title, frame.type));
    }
}

void World::answer(Process& process) {
    const bool good = !mishap(30);
    later(process, 0, 30, [this, &process, good] {
        send(process, ipc::encode(ipc::VmAnswer{good, 0, good ? "" : "it does not want to"}));
    });
}

void World::took_snapshot(Process& process, std::vector<Fd> fds) {
    for (auto& fd : fds)
        process.fds.push_back(std::move(fd));
    process.snapshotting = true;
    bool done = !mishap(30);
    later(process, 5, 4000, [this, &process, done] { saved(process, done); });
}

void World::saved(Process& process, bool done) {
    if (process.state == Process::State::ending)
        done = false;
    if (!done)
        process.snapshotting = false;
    send(process, ipc::encode(ipc::VmSaved{done, 4096, 8, done ? "" : "it cannot be saved"}));
}

void World::set_up(Process& process, ipc::VmSetup setup) {
    process.setup = std::move(setup);
    process.state = Process::State::starting;
    if (mishap(4))
        return later(process, 0, 500, [this, &process] { end_process(process, "signal 11"); });
    if (mishap(4)) {
        later(process, 0, 500, [this, &process] {
            send(process, ipc::encode(ipc::Failed{7, "its image is damaged"}));
            end_process(process, "exit status 1");
        });
        return;
    }
    later(process, 1, mishap(5) ? 60'000 : 1500, [this, &process] {
        if (process.state != Process::State::starting)
            return;
        process.state = Process::State::running;
        send(process, ipc::encode(ipc::Ready{}), true);
        guest_runs(process);
    });
}

// What guests come to by themselves.
void World::guest_runs(Process& process) {
    if (!mishap(25))
        return;
    auto kind = random.below(3);
    later(process, 100, random.chance(50) ? 20'000 : 900'000, [this, &process, kind] {
        if (fair || process.state != Process::State::running)
            return;
        if (kind == 0) {
            process.failed = true;
            end_process(process, "signal 11");
        } else {
            guest_ends(process, kind == 1, kind == 1 ? "the machine failed" : "it powered off");
        }
    });
}

void World::guest_ends(Process& process, bool failed, const std::string& text) {
    process.state = Process::State::ending;
    process.failed = failed;
    process.told_end = true;
    send(process, ipc::encode(ipc::VmEnded{0, 0, failed, text}));
    end_process(process, "exit status 0");
}

} // namespace vmhost::simulation
