"""What does a sos report hold of backupready? Its configuration without keys, its journal, and what it believes."""

from sos.report.plugins import DebianPlugin, IndependentPlugin, Plugin, RedHatPlugin, UbuntuPlugin


class Backupready(Plugin, RedHatPlugin, DebianPlugin, UbuntuPlugin, IndependentPlugin):
    """For sos 4.0 and later."""

    short_desc = "Whether the next Azure Backup of this machine will succeed"
    plugin_name = "backupready"
    profiles = ("system", "services", "virt")
    packages = ("backupready",)

    def setup(self):
        secret = ("*.key", "*.pem", "web.yml")
        self.add_forbidden_path([f"/etc/backupready/{place}{name}" for place in ("", "*/") for name in secret])
        self.add_copy_spec(["/etc/backupready", "/var/lib/backupready-fixes"])
        doors = ["backupready-look.socket", "backupready-fix.socket"]
        self.add_journal(units=["backupready.service", *doors, "backupready-look@*", "backupready-fix@*"])
        self.add_service_status(["backupready.service", *doors, "backupready-fix-end.timer"])
        self.add_cmd_output(
            [
                "backupready --version",
                "backupready status --json",
                "backupready config show",
            ]
        )
