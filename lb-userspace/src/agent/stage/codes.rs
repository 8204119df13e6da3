//! Why a config file is not written, each with the code that `xlb explain` explains. Append-only.

use crate::config::{Code, Severity};

macro_rules! codes {
    ($($konst:ident = $id:literal $title:literal $explanation:literal;)+) => {
        $(pub(super) static $konst: Code = Code {
            id: $id, severity: Severity::Error, title: $title, explanation: $explanation, host: true,
        };)+
        /// Every one, in order.
        pub static WRITE_CODES: &[&Code] = &[$(&$konst),+];
    };
}

codes! {
    SYMLINK = "XLB0501" "config file that is a symlink"
        "A change is put in place by renaming a new file over the old one; over a link that would replace the link and leave its target as it was. Change only the running state with --runtime, start the agent with the target's path, or edit the target by hand.";
    READ_ONLY = "XLB0502" "config file that nobody may write"
        "Its mode has no write permission: somebody said that it is not to be changed. Use --runtime, or give the owner write permission with chmod u+w.";
    IMMUTABLE = "XLB0503" "config file that is immutable"
        "The file has the attribute i (immutable) or a (append only), which stops root, too. 'lsattr FILE' shows it, 'chattr -i FILE' takes it away; or use --runtime.";
    MANAGED = "XLB0504" "config file that another program writes"
        "[agent] managed_by, or a comment at its head, says that another program keeps this file: what xlb wrote into it would be gone with that program's next run. Make the change there, or use --runtime. Where the comment means nothing, set managed_by = \"none\".";
    CHANGED = "XLB0505" "config file that is not what the agent has read"
        "Somebody has changed the file since, and a change by command would be made to a text that nobody has checked. 'xlb reload' reads it, then repeat; or use --runtime.";
    NOT_A_FILE = "XLB0506" "config that is no regular file"
        "A pipe or device cannot be replaced by a new file. Use --runtime.";
    FAILED = "XLB0507" "config file that cannot be written"
        "The system refused a step of writing the new file beside the old one and renaming it; the message has the step and the system's answer. The old file is in place. See 'df' and 'ls -ld' of its directory; or use --runtime.";
}
