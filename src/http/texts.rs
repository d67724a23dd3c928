//! Every word of the pages, in every language that they speak. `{}` stands for the provider's name.

use crate::kernel::verdict::Failure;

pub struct Texts {
    /// BCP 47; a part of the page's tag.
    pub language: &'static str,

    // A sign-in that waits for the person.
    pub title: &'static str,
    pub device: &'static str,
    pub open: &'static str,
    pub enter: &'static str,
    pub copy: &'static str,
    pub copied: &'static str,
    pub scan: &'static str,
    pub qr: &'static str,
    pub open_page: &'static str,
    pub time_left: &'static str,
    pub valid_until: &'static str,
    pub waiting: &'static str,
    pub unreachable: &'static str,
    pub check: &'static str,
    pub warning: &'static str,
    pub offline: &'static str,

    // How it stands otherwise: a headline and what it means.
    pub starting: [&'static str; 2],
    pub verifying: [&'static str; 2],
    pub authorized: [&'static str; 2],
    pub claimed: [&'static str; 2],
    pub denied: [&'static str; 2],
    pub expired: [&'static str; 2],
    pub cancelled: [&'static str; 2],
    pub gone: [&'static str; 2],
    pub failed: &'static str,
    pub grant_lost: &'static str,
    pub rejected: &'static str,
    pub invalid: &'static str,
    pub internal: &'static str,

    // Where a sign-in begins.
    pub start: [&'static str; 2],
    pub start_elsewhere: &'static str,
    pub start_with: &'static str,
    pub not_answering: &'static str,
    pub needs_script: &'static str,
    pub this_browser: &'static str,
    pub beginning: &'static str,

    // What the page may do that began it.
    pub yours: &'static str,
    pub cancel: &'static str,
    pub renew: &'static str,
    pub claim: &'static str,
    pub again: &'static str,
    pub tokens: &'static str,
    pub trouble: &'static str,

    // The demo.
    pub demo: &'static str,
    pub restarts: &'static str,
}

static ENGLISH: Texts = Texts {
    language: "en",
    title: "Sign in with {}",
    device: "Device:",
    open: "On your phone or computer, go to",
    enter: "and enter this code",
    copy: "Copy the code",
    copied: "Copied",
    scan: "Or scan this with your phone",
    qr: "QR code of the address",
    open_page: "Open it here",
    time_left: "Time left",
    valid_until: "The code is good until",
    waiting: "Waiting for you to confirm…",
    unreachable: "{} is not answering at the moment. We keep trying, and your code stays good.",
    check: "Already confirmed? Check now",
    warning: "Use this code only if you started this sign-in yourself. Never enter a code that somebody sent you: it would sign them in as you.",
    offline: "No connection. Trying again…",
    starting: ["One moment", "{} is being asked for a code…"],
    verifying: ["One moment", "You have confirmed. The answer of {} is being checked…"],
    authorized: ["You are signed in", "Go back to your device. It goes on by itself."],
    claimed: ["You are signed in", "Your device is ready. You can close this page."],
    denied: ["The sign-in was declined", "Nobody was signed in."],
    expired: ["The time is over", "The code has expired. Start again on your device to get a new one."],
    cancelled: ["The sign-in was cancelled", "Nobody was signed in. You can close this page."],
    gone: ["This sign-in is over", "Start again on your device."],
    failed: "The sign-in did not work",
    grant_lost: "You confirmed, but the answer of {} got lost on the way. Please start again on your device.",
    rejected: "{} refused the sign-in. Please start again on your device.",
    invalid: "{} gave an answer that we do not understand.",
    internal: "Something went wrong on our side. Please start again on your device.",
    start: ["Sign in", "You get a short code, and confirm it on your phone or computer."],
    start_elsewhere: "A sign-in begins on your device. Open the app there; it shows you the way back here.",
    start_with: "Sign in with {}",
    not_answering: "not answering at the moment",
    needs_script: "To begin here needs JavaScript: the key to your sign-in never leaves this page. Watching one works without.",
    this_browser: "This browser",
    beginning: "Asking for a code…",
    yours: "Your sign-in",
    cancel: "Cancel",
    renew: "Get a new code",
    claim: "Claim the tokens",
    again: "Start again",
    tokens: "The tokens, handed over once",
    trouble: "That did not work. Please try again in a moment.",
    demo: "This is the demo. On the provider's page you can approve, deny and break things.",
    restarts: "Poller crashed and restarted:",
};

static GERMAN: Texts = Texts {
    language: "de",
    title: "Anmelden mit {}",
    device: "Gerät:",
    open: "Öffnen Sie auf Ihrem Handy oder Computer",
    enter: "und geben Sie diesen Code ein",
    copy: "Code kopieren",
    copied: "Kopiert",
    scan: "Oder scannen Sie mit dem Handy",
    qr: "QR-Code der Adresse",
    open_page: "Hier öffnen",
    time_left: "Verbleibende Zeit",
    valid_until: "Der Code gilt bis",
    waiting: "Warten auf Ihre Bestätigung …",
    unreachable: "{} antwortet gerade nicht. Wir versuchen es weiter, Ihr Code bleibt gültig.",
    check: "Schon bestätigt? Jetzt prüfen",
    warning: "Benutzen Sie diesen Code nur, wenn Sie diese Anmeldung selbst begonnen haben. Geben Sie nie einen Code ein, den Ihnen jemand geschickt hat: Sie würden ihn in Ihrem Namen anmelden.",
    offline: "Keine Verbindung. Neuer Versuch …",
    starting: ["Einen Moment", "{} wird um einen Code gebeten …"],
    verifying: ["Einen Moment", "Sie haben bestätigt. Die Antwort von {} wird geprüft …"],
    authorized: ["Sie sind angemeldet", "Gehen Sie zurück zu Ihrem Gerät. Dort geht es von selbst weiter."],
    claimed: ["Sie sind angemeldet", "Ihr Gerät ist bereit. Sie können diese Seite schließen."],
    denied: ["Die Anmeldung wurde abgelehnt", "Niemand wurde angemeldet."],
    expired: ["Die Zeit ist abgelaufen", "Der Code ist nicht mehr gültig. Beginnen Sie auf Ihrem Gerät neu, um einen neuen zu bekommen."],
    cancelled: ["Die Anmeldung wurde abgebrochen", "Niemand wurde angemeldet. Sie können diese Seite schließen."],
    gone: ["Diese Anmeldung ist vorbei", "Beginnen Sie auf Ihrem Gerät neu."],
    failed: "Die Anmeldung hat nicht geklappt",
    grant_lost: "Sie haben bestätigt, aber die Antwort von {} ging unterwegs verloren. Bitte beginnen Sie auf Ihrem Gerät neu.",
    rejected: "{} hat die Anmeldung zurückgewiesen. Bitte beginnen Sie auf Ihrem Gerät neu.",
    invalid: "Die Antwort von {} verstehen wir nicht.",
    internal: "Bei uns ist etwas schiefgegangen. Bitte beginnen Sie auf Ihrem Gerät neu.",
    start: ["Anmelden", "Sie bekommen einen kurzen Code und bestätigen ihn auf Ihrem Handy oder Computer."],
    start_elsewhere: "Eine Anmeldung beginnt auf Ihrem Gerät. Öffnen Sie dort die App; sie zeigt Ihnen den Weg hierher.",
    start_with: "Anmelden mit {}",
    not_answering: "antwortet gerade nicht",
    needs_script: "Um hier zu beginnen, braucht es JavaScript: Der Schlüssel zu Ihrer Anmeldung verlässt diese Seite nie. Zusehen geht ohne.",
    this_browser: "Dieser Browser",
    beginning: "Ein Code wird geholt …",
    yours: "Ihre Anmeldung",
    cancel: "Abbrechen",
    renew: "Neuen Code holen",
    claim: "Tokens abholen",
    again: "Neu beginnen",
    tokens: "Die Tokens, nur einmal ausgehändigt",
    trouble: "Das hat nicht geklappt. Bitte versuchen Sie es gleich noch einmal.",
    demo: "Dies ist die Demo. Auf der Seite des Anbieters können Sie zustimmen, ablehnen und Dinge kaputt machen.",
    restarts: "Poller abgestürzt und neu gestartet:",
};

static SPANISH: Texts = Texts {
    language: "es",
    title: "Iniciar sesión con {}",
    device: "Dispositivo:",
    open: "En su móvil u ordenador, vaya a",
    enter: "e introduzca este código",
    copy: "Copiar el código",
    copied: "Copiado",
    scan: "O escanéelo con el móvil",
    qr: "Código QR de la dirección",
    open_page: "Abrir aquí",
    time_left: "Tiempo restante",
    valid_until: "El código es válido hasta las",
    waiting: "Esperando su confirmación…",
    unreachable: "{} no responde en este momento. Seguimos intentándolo y su código sigue siendo válido.",
    check: "¿Ya ha confirmado? Comprobar ahora",
    warning: "Use este código solo si usted mismo ha empezado este inicio de sesión. Nunca introduzca un código que le haya enviado otra persona: entraría con la cuenta de usted.",
    offline: "Sin conexión. Volviendo a intentar…",
    starting: ["Un momento", "Pidiendo un código a {}…"],
    verifying: ["Un momento", "Usted ha confirmado. Se está comprobando la respuesta de {}…"],
    authorized: ["Ha iniciado sesión", "Vuelva a su dispositivo. Continuará por sí solo."],
    claimed: ["Ha iniciado sesión", "Su dispositivo está listo. Puede cerrar esta página."],
    denied: ["Se ha rechazado el inicio de sesión", "Nadie ha iniciado sesión."],
    expired: ["Se ha acabado el tiempo", "El código ha caducado. Empiece de nuevo en su dispositivo para obtener otro."],
    cancelled: ["Se ha cancelado el inicio de sesión", "Nadie ha iniciado sesión. Puede cerrar esta página."],
    gone: ["Este inicio de sesión ha terminado", "Empiece de nuevo en su dispositivo."],
    failed: "El inicio de sesión no ha funcionado",
    grant_lost: "Usted confirmó, pero la respuesta de {} se perdió por el camino. Empiece de nuevo en su dispositivo.",
    rejected: "{} ha rechazado el inicio de sesión. Empiece de nuevo en su dispositivo.",
    invalid: "{} ha dado una respuesta que no entendemos.",
    internal: "Algo ha fallado por nuestra parte. Empiece de nuevo en su dispositivo.",
    start: ["Iniciar sesión", "Recibirá un código corto y lo confirmará en su móvil u ordenador."],
    start_elsewhere: "El inicio de sesión empieza en su dispositivo. Abra allí la aplicación; le mostrará el camino hasta aquí.",
    start_with: "Iniciar sesión con {}",
    not_answering: "no responde en este momento",
    needs_script: "Para empezar aquí hace falta JavaScript: la llave de su sesión nunca sale de esta página. Para mirar no hace falta.",
    this_browser: "Este navegador",
    beginning: "Pidiendo un código…",
    yours: "Su inicio de sesión",
    cancel: "Cancelar",
    renew: "Obtener un código nuevo",
    claim: "Recoger los tokens",
    again: "Empezar de nuevo",
    tokens: "Los tokens, entregados una sola vez",
    trouble: "No ha funcionado. Inténtelo de nuevo dentro de un momento.",
    demo: "Esta es la demostración. En la página del proveedor puede aceptar, rechazar y romper cosas.",
    restarts: "Poller caído y reiniciado:",
};

static ALL: [&Texts; 3] = [&ENGLISH, &GERMAN, &SPANISH];

impl Texts {
    /// Those of a language tag or range (RFC 4647): `de`, `de-AT` and `DE-at` alike; `*` is anything.
    pub fn speaking(language: &str) -> Option<&'static Self> {
        let primary = language.split('-').next().unwrap_or_default();
        ALL.into_iter().find(|texts| primary == "*" || primary.eq_ignore_ascii_case(texts.language))
    }

    /// For everybody whose language is not here.
    pub fn default() -> &'static Self {
        &ENGLISH
    }

    pub fn about(&self, text: &'static str, provider: &str) -> String {
        text.replace("{}", provider)
    }

    pub fn explain(&self, failure: Failure) -> &'static str {
        match failure {
            Failure::GrantLost => self.grant_lost,
            Failure::ProviderRejected => self.rejected,
            Failure::IdTokenInvalid | Failure::ProviderInvalidResponse => self.invalid,
            Failure::InternalError => self.internal,
            Failure::ProviderUnreachable | Failure::ProviderRateLimited { .. } | Failure::ProviderTimeout => self.unreachable,
        }
    }
}
