// One host after another: what the last one left running, and is gone on with.
//
// The model of the last host is gone on with as well. A file that has changed since is
// not applied by the way: guests would go on with settings that no plan shows. It is what the next
// plan says, as on a host that was up all the time.
#include <algorithm>

#include "host/host.h"

namespace vmhost::host {

config::Model model_to_start_with(Ground& ground, config::Model file) {
    auto running =
        RunningGuests::open(file.host.state, [&](std::string_view what) { ground.changing(what); });
    if (!running)
        return file; // prepare() says it
    const auto guests = running->read();
    std::vector<std::string> living;
    for (const auto& guest : guests)
        if (guest.pid != 0 && ground.open_process(guest.pid, guest.start_ticks))
            living.push_back(guest.name);
    if (living.empty())
        return file;
    auto kept = running->read_model();
    if (!kept) {
        log::warning("host",
                     "guests of an earlier vmhost run, but its configuration is not there: "
                     "they are taken for those of {}",
                     file.file);
        return file;
    }
    auto model = config::parse_state(kept->toml, file.host.state + "/run/model.toml");
    if (!model) {
        log::warning("host",
                     "guests of an earlier vmhost run, but its configuration is not to be "
                     "understood; they are taken for those of {}: {}",
                     file.file, model.error().front().message());
        return file;
    }
    model->file = file.file;
    auto lasting = *model;
    for (const auto& name : kept->temporary) {
        config::remove_vm(lasting, name);
        if (std::ranges::find(living, name) == living.end())
            config::remove_vm(*model, name); // gone with its end, of which no vmhost knew
    }
    if (!config::differences(lasting, file).empty())
        log::notice("host",
                    "guests of an earlier vmhost run: going on with the configuration "
                    "that they have; {} differs, see vmhost plan",
                    file.file);
    return std::move(*model);
}

void Host::open_running() {
    auto opened = RunningGuests::open(model_.host.state,
                                      [this](std::string_view what) { ground_.changing(what); });
    if (!opened) {
        log::warning("host", "guests will end with this vmhost: {}", opened.error().message());
        return;
    }
    running_ = std::move(*opened);
    context_.running = &*running_;
}

void Host::find_running() {
    if (!running_)
        return;
    for (auto& record : running_->read()) {
        Found found{std::move(record), {}};
        if (found.record.pid != 0) {
            if (auto process = ground_.open_process(found.record.pid, found.record.start_ticks)) {
                found.process = std::move(*process);
            } else {
                log::notice("host", "vm {} has ended while no vmhost ran", found.record.name);
                running_->remove(found.record.name);
                if (found.record.to_stop && !found.record.temporary) {
                    const RunningGuest stopped{.name = found.record.name, .id = found.record.id};
                    if (auto kept = running_->write(stopped); !kept)
                        log::warning("host", "vm {}: a vmhost that follows will start it: {}",
                                     stopped.name, kept.error().message());
                    found_.push_back({stopped, {}});
                    continue;
                }
                if (found.record.temporary) // and lived a moment ago
                    config::remove_vm(model_, found.record.name);
                continue;
            }
        }
        found_.push_back(std::move(found));
    }
}

void Host::take_over(std::function<void()> done) {
    auto left = std::make_shared<std::size_t>(1);
    auto one_done = [left, done] {
        if (--*left == 0)
            done();
    };
    for (auto& one : found_) {
        if (!one.process)
            continue;
        took_over_ = true;
        auto guest = find_by_name(one.record.name);
        if (guest == nullptr) {
            // Of a file that is all we know, and does not name it.
            config::Vm vm;
            vm.name = one.record.name;
            if (auto added = add_guest(vm, one.record.id); !added) {
                log::error("host", "vm {} is not taken over: {}", vm.name, added.error().message());
                continue;
            }
            model_.vms.push_back(vm);
            one.record.temporary = true;
            guest = guests_.back().get();
        }
        if (one.record.temporary)
            guest->make_temporary({}, [this] { sweep_.start(std::chrono::milliseconds(0)); });
        ++*left;
        guest->adopt(one.record, std::move(one.process), [one_done](Result<void> adopted) {
            if (!adopted)
                log::warning("host", "{}", adopted.error().message());
            one_done();
        });
    }
    one_done();
}

void Host::keep_model() const {
    if (!running_)
        return;
    RunningGuests::Model model{config::print(model_), {}};
    for (const auto& vm : model_.vms) {
        auto guest = find_by_name(vm.name);
        if (makers_.contains(vm.name) || (guest != nullptr && guest->temporary()))
            model.temporary.push_back(vm.name);
    }
    if (auto kept = running_->write_model(model); !kept)
        log::warning("host", "a vmhost that follows will not know the configuration: {}",
                     kept.error().message());
}

void Host::leave(std::function<void()> done) {
    ending_ = true;
    stagger_.stop();
    slow_.stop();
    step_.stop();
    sweep_.stop();
    forget_guards();
    if (network_)
        network_->leave();
    stop_services(std::move(done));
}

} // namespace vmhost::host
