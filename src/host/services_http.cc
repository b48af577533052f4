// What the http process is given: listening sockets, directories, a log, and answer files.
#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <net/if.h>
#include <sys/stat.h>

#include "host/files.h"
#include "host/services.h"
#include "host/site_sets.h"
#include "install/install.h"

namespace vmhost::host {

namespace {

bool wants_answers(const config::Model& model) {
    const auto& install = model.install;
    return !install.listen.empty() || !install.locations.empty() || !install.sets.empty() ||
           std::ranges::any_of(model.vms, [](const auto& vm) { return vm.install.has_value(); });
}

// Whether a guest on the switch is served answers.
bool has_installer(const config::Model& model, const config::Switch& one) {
    return std::ranges::any_of(model.vms, [&](const config::Vm& vm) {
        return vm.install && std::ranges::any_of(vm.interfaces, [&](const auto& interface) {
                   return interface.switch_name == one.name;
               });
    });
}

Place place_of(const config::Model& model, const char* key) {
    auto found = model.places.find(key);
    return found == model.places.end() ? Place{model.file, 0, 0} : found->second;
}

std::vector<HttpHas::Socket> wanted_sockets(const config::Model& model) {
    auto listens = model.install.listen;
    if (listens.empty() && wants_answers(model))
        for (const auto& one : model.switches) {
            if (!one.enabled || (one.local && !has_installer(model, one)))
                continue;
            if (one.ipv4)
                listens.push_back({one.place, one.ipv4->address, 80});
            if (one.ipv6)
                listens.push_back({one.place, one.ipv6->address, 80});
        }
    std::vector<HttpHas::Socket> out;
    auto add = [&](const config::ListenAddress& listen, bool metrics) {
        auto& socket = out.emplace_back(HttpHas::Socket{listen, {}, 0, metrics});
        // A service hears of a routing domain only when it listens in it.
        for (const auto& one : model.switches)
            if (one.enabled && one.rdomain != 0 &&
                ((one.ipv4 && listen.address == one.ipv4->address) ||
                 (one.ipv6 && listen.address == one.ipv6->address)))
                socket.device = net::rdomain_name(one.rdomain);
        socket.device_index = socket.device.empty() ? 0 : ::if_nametoindex(socket.device.c_str());
    };
    for (const auto& listen : listens)
        add(listen, false);
    for (const auto& listen : model.metrics.listen)
        add(listen, true);
    return out;
}

std::vector<config::HttpLocation> wanted_locations(const config::Model& model) {
    auto out = model.install.locations;
    if (!model.install.sets.empty()) {
        auto& sets = out.emplace_back();
        sets.place = place_of(model, "install.sets");
        sets.path = "/pub/OpenBSD/*";
        sets.directory = model.install.sets;
        sets.strip = 2;
        sets.listing = true;
        sets.sets = true;
    }
    return out;
}

HttpHas::File identity(const char* path) {
    struct stat status {};
    if (::stat(path, &status) < 0)
        return {};
    return {status.st_dev, status.st_ino};
}

HttpHas http_wanted(const config::Model& model) {
    HttpHas wanted;
    wanted.sockets = wanted_sockets(model);
    wanted.locations = wanted_locations(model);
    wanted.access_log = model.install.access_log;
    for (const auto& one : wanted.locations)
        wanted.files.push_back(identity(one.directory.c_str()));
    return wanted;
}

Result<ipc::Frame> open_http(Ground& ground, const HttpHas::Socket& one) {
    auto listener = ground.open_http(one.at.address, one.at.port, one.device);
    if (!listener)
        return std::unexpected(std::move(listener).error().at(one.at.place));
    return ipc::encode(ipc::HttpListener{std::move(*listener), one.metrics});
}

// Of a file that cannot be had: the host does without it, as a disk that is not mounted must not
// keep its guests down.
void do_without(std::string what, int error_number, const Place& place) {
    log::error("host", "http: {}",
               Error::system(error_number, std::move(what)).at(place).message());
}

std::optional<ipc::Frame> open_access_log(const config::Model& model) {
    const auto& path = model.install.access_log;
    // Neither a FIFO nor a terminal: they could make us wait.
    Fd file(::open(path.c_str(),
                   O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
                   0640));
    struct stat status {};
    int problem = !file || ::fstat(file.get(), &status) < 0 ? errno
                  : S_ISREG(status.st_mode)                 ? 0
                                                            : EINVAL;
    if (problem != 0) {
        do_without(fmt::format("open {}", path), problem, place_of(model, "install.access_log"));
        return std::nullopt;
    }
    return ipc::encode(ipc::HttpAccessLog{std::move(file)});
}

ipc::Frame open_location(const config::HttpLocation& one) {
    Fd directory(::open(one.directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!directory)
        do_without(fmt::format("open directory {}", one.directory), errno, one.place);
    return ipc::encode(
        ipc::HttpLocation{directory ? std::optional(std::move(directory)) : std::nullopt, one.path,
                          one.host, one.strip, one.listing, one.sets});
}

} // namespace

Result<std::string> install_file(const config::Model& model, const config::Vm& vm,
                                 const InstallState& state, std::string_view name,
                                 install::Values more) {
    auto read = [&](const std::string& path) {
        return read_small_file(path.starts_with('/') ? path : model.host.state + "/" + path,
                               limits::max_answer_file_bytes, "file");
    };
    more["host_key"] = state.host_key.private_text;
    more["host_key_public"] = state.host_key.public_line;
    return install::file_text(model, vm, state.upgrade, state.number, name, read, more);
}

InstallState first_installation(const config::Vm& vm) {
    return {true, vm.install->mode == config::InstallMode::upgrade, 1};
}

namespace {

std::string hash_of_trial(std::string_view password) {
    const bool none = password.empty() || password == install::no_password;
    return std::string(none ? std::string_view() : install::masked_password);
}

} // namespace

// While somebody can still mend it; what they are when they are claimed is looked at then. The
// hashes are not made for that, as they cost the parent milliseconds each.
Result<void> try_install_files(const config::Model& model, const config::Vm& vm,
                               const InstallState& state) {
    const install::Values hashes{{"password_hash", hash_of_trial(vm.install->password)},
                                 {"root_password_hash", hash_of_trial(vm.install->root_password)}};
    for (const auto& file : install::install_files(vm, state.upgrade)) {
        auto text = TRY(install_file(model, vm, state, file.name, hashes));
        const auto& written =
            vm.install->file.empty() ? vm.install->template_file : vm.install->file;
        if (file.name != "install.conf" || written.empty())
            continue;
        for (const auto& doubt : install::lint_answers(text))
            log::warning("host", "vm {}: answer file {} line {}: {}", vm.name, printable(written),
                         doubt.place().line, doubt.text());
    }
    return {};
}

bool wants_http(const config::Model& model) {
    return wants_answers(model) || !model.metrics.listen.empty();
}

Result<std::vector<ipc::Frame>> describe_http(Ground& ground, const config::Model& model,
                                              const InstallStates& installs, HttpHas& has,
                                              bool anew) {
    std::vector<ipc::Frame> frames;
    auto wanted = http_wanted(model);
    if (!anew && has != wanted)
        return fail(ErrorKind::unsupported, "it has other sockets or directories");
    if (anew) {
        for (const auto& one : wanted.locations)
            frames.push_back(open_location(one));
        if (!wanted.access_log.empty())
            if (auto frame = open_access_log(model))
                frames.push_back(*std::move(frame));
        for (const auto& one : wanted.sockets)
            frames.push_back(TRY(open_http(ground, one)));
        has = std::move(wanted);
    }
    TRY(describe_site_sets(model, installs, frames));
    for (const auto& vm : model.vms) {
        if (!vm.install)
            continue;
        const auto state = installs(vm);
        // The others are to be installed all the same; whoever asks for these is told 503.
        if (state.armed)
            if (auto made = try_install_files(model, vm, state); !made)
                log::error("host", "{}", made.error().message());
        for (const auto& interface : vm.interfaces) {
            if (!interface.ipv4)
                continue;
            ipc::HttpAnswer answer;
            answer.vm = vm.name;
            answer.address = *interface.ipv4;
            answer.mac = interface.lladdr;
            answer.host_name = vm.install->hostname.empty() ? vm.name : vm.install->hostname;
            for (auto& file : install::install_files(vm, state.upgrade))
                answer.files.push_back({std::move(file.name), file.use == install::FileUse::once &&
                                                                  file.afterwards.empty()});
            if (auto set = install::keyed_set_name(model, vm, state.upgrade))
                answer.files.push_back({*std::move(set), false});
            answer.sealed = !state.armed;
            frames.push_back(ipc::encode(std::move(answer)));
        }
    }
    return frames;
}

} // namespace vmhost::host
