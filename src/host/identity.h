// What a guest is told that its machine is: SMBIOS's serial number and UUID.
//
// The serial number of a VM whose system asks by cloud-init says where its seed is, in the words
// that cloud-init looks for there (DataSourceNoCloud.py and ds-identify of 22.4): a template needs
// nothing of this host in it. It says so whether or not the VM is armed, as cloud-init compares the
// instance with the one that it has seen; what it says of the instance wins over meta-data.
//
// "dsmode=net": with "ds=nocloud" alone the older ones read the seed, and then leave it to a stage
// before the network is up, which has not got it. "ds=nocloud-net" newer ones complain of.
#pragma once

#include "config/config.h"
#include "ipc/messages.h"
#include "store/store.h"

namespace vmhost::host {

// installation: its last one; null = none.
std::string serial_of(const config::Model& model, const config::Vm& vm,
                      const store::Installation* installation);

// The UUID is config's, see there.
void identify(ipc::VmSetup& setup, const config::Model& model, const config::Vm& vm,
              const store::Installation* installation);

} // namespace vmhost::host
