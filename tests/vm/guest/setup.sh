#!/bin/bash
# A broker, a platform and a node of this machine as its packages install them, with a test PKI. Run once.
set -euo pipefail
cd /opt/t
export DEBIAN_FRONTEND=noninteractive
dpkg -i packages/older/hufu_*.deb packages/built/hufu-platform_*.deb > /opt/t/dpkg.log 2>&1 || { cat /opt/t/dpkg.log; exit 1; }
mkdir -p pki && cd pki
hufu key new --out root.key
hufu pki root --key root.key --subject CN=test-root,C=CN --out root.pem
for party in s1/platform buyer-1; do
  name=${party#s1/}
  hufu key new --out "$name.key"
  hufu key csr --key "$name.key" --subject "CN=$party" --out "$name.csr"
  hufu pki issue --ca root.pem --ca-key root.key --csr "$name.csr" --out "$name.pem"
done

# The broker, with its sessions on the disk as a site has it.
printf 'listener 1883 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location /var/lib/mosquitto/\nautosave_interval 5\n' > /etc/mosquitto/mosquitto.conf
systemctl enable --now mosquitto

mkdir -p /etc/hufu-platform
install -o hufu-platform -m 600 platform.key /etc/hufu-platform/platform.key
install -m 644 platform.pem /etc/hufu-platform/platform.pem
install -m 644 root.pem /etc/hufu-platform/trust.pem
printf 'HUFU_SITE=s1\nHUFU_BROKER=127.0.0.1:1883\nHUFU_LISTEN=127.0.0.1:8480\n' > /etc/hufu-platform/serve.env
systemctl enable --now hufu-platform

hufu init --system --site s1 --node n1 --broker 127.0.0.1:1883 --trust root.pem --platform-cert platform.pem
hufu pki issue --ca root.pem --ca-key root.key --csr /etc/hufu/node.csr --out n1.pem
hufu init --system --cert n1.pem
cat >> /etc/hufu/hufu.toml << 'END'
[metering]
window_s = 5
[[product]]
id = "small"
name = "a fifth of a core"
cpu_millicores = 200
memory_bytes = 67108864
[[product.tariff.price]]
resource = "cpu"
price = "36"
[[product.tariff.price]]
resource = "disk_write"
price = "1"
END
install -m 755 /opt/t/workload.sh /usr/local/sbin/hufu-workload
printf 'command = ["/usr/local/sbin/hufu-workload"]\n' > /etc/hufu/provision.toml
hufu check-config
systemctl enable --now hufu-provision.socket hufu
