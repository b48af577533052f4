// Orders as strangers send them. The first byte chooses the form. Whatever is taken must be fit for
// what is made of it: a table of the file that the configuration takes, and one line for
// authorized_keys.
#include <cstdlib>

#include "deploy/deploy.h"

using namespace vmhost;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0)
        return 0;
    auto text = as_text(Bytes(data + 1, size - 1));
    auto order = deploy::parse_order(text, data[0] & 1 ? "vm13.toml" : "vm13.txt");
    if (!order)
        return 0;
    if (!deploy::check_hostname(order->hostname) || !deploy::check_username(order->username) ||
        order->sshkey.text().find('\n') != std::string::npos ||
        !deploy::parse_ssh_key(order->sshkey.text()))
        std::abort();
    if (!order->image.empty() &&
        (order->image.find('/') != std::string::npos ||
         !config::parse("[allocate]\nimage = " + config::toml_text(order->image), "fuzz")))
        std::abort();
    config::VmInstall install;
    install.hostname = order->hostname;
    install.user = order->username;
    install.sshkey = order->sshkey.text();
    if (!config::parse("[vm.vm13.install]\n" + config::install_lines(install), "fuzz"))
        std::abort();
    return 0;
}
