// The other side of keys, signatures, cipher texts and certificates: BouncyCastle 1.72, with nothing of Hufu. Reads commands from
// standard input, one a line, words parted by tabs, and answers each with one line, "ok ..." or "no: reason".
//
//   javac -cp bcprov.jar:bcpkix.jar:bcutil.jar -d D Keys.java; java -cp D:bcprov.jar:bcpkix.jar:bcutil.jar Keys
//
//   sign          KEY DATA OUT                 SM2 with SM3, its own default user id
//   verify        CERT DATA SIGNATURE
//   encrypt       CERT DATA OUT                SM2Cipher of GM/T 0009 around its engine
//   decrypt       KEY CIPHER OUT
//   key-encrypt   KEY OUT PASSWORD ROUNDS      PBES2, PBKDF2-HMAC-SM3, SM4-CBC
//   key-decrypt   FILE PASSWORD KEY            opens FILE and compares with KEY
//   key-new       OUT                          plain PKCS#8
//   request       KEY OUT SUBJECT              PKCS#10
//   request-check FILE
//   issue         CA-KEY CA-CERT REQUEST OUT   a signer's certificate
//   chain-check   LEAF ISSUER ROOT AT          PKIX, AT in ms since 1970, no lists
//   list          CA-KEY CA-CERT CERT OUT      a list that revokes CERT
//   list-check    LIST CA-CERT CERT            prints "revoked" or "good"
import java.io.*;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.security.*;
import java.security.cert.*;
import java.security.interfaces.*;
import java.security.spec.*;
import java.util.*;
import javax.crypto.Cipher;
import javax.crypto.spec.IvParameterSpec;
import javax.crypto.spec.SecretKeySpec;
import org.bouncycastle.asn1.*;
import org.bouncycastle.asn1.gm.GMObjectIdentifiers;
import org.bouncycastle.asn1.pkcs.*;
import org.bouncycastle.asn1.x500.X500Name;
import org.bouncycastle.asn1.x509.*;
import org.bouncycastle.cert.*;
import org.bouncycastle.cert.jcajce.*;
import org.bouncycastle.crypto.digests.SM3Digest;
import org.bouncycastle.crypto.engines.SM2Engine;
import org.bouncycastle.crypto.generators.PKCS5S2ParametersGenerator;
import org.bouncycastle.crypto.params.KeyParameter;
import org.bouncycastle.crypto.params.ParametersWithRandom;
import org.bouncycastle.crypto.util.*;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.openssl.PEMParser;
import org.bouncycastle.openssl.jcajce.*;
import org.bouncycastle.operator.*;
import org.bouncycastle.operator.jcajce.*;
import org.bouncycastle.pkcs.*;
import org.bouncycastle.pkcs.jcajce.*;

public class Keys {
    /** SM4-CBC under a password: BouncyCastle 1.72 has SM3, SM4 and PBKDF2, and no name that joins them for PBES2. */
    static Cipher sm4(int mode, String password, PBKDF2Params derived, byte[] iv) throws Exception {
        PKCS5S2ParametersGenerator g = new PKCS5S2ParametersGenerator(new SM3Digest());
        g.init(password.getBytes(StandardCharsets.UTF_8), derived.getSalt(), derived.getIterationCount().intValueExact());
        byte[] key = ((KeyParameter) g.generateDerivedParameters(128)).getKey();
        Cipher cipher = Cipher.getInstance("SM4/CBC/PKCS7Padding", "BC");
        cipher.init(mode, new SecretKeySpec(key, "SM4"), new IvParameterSpec(iv));
        return cipher;
    }

    public static void main(String[] arguments) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            try {
                System.out.println("ok " + run(line.split("\t")));
            } catch (Throwable e) {
                System.out.println("no: " + String.valueOf(e).replace('\n', ' '));
            }
            System.out.flush();
        }
    }

    static String run(String[] w) throws Exception {
        switch (w[0]) {
            case "sign": {
                Signature s = Signature.getInstance("SM3withSM2", "BC");
                s.initSign(key(w[1]));
                s.update(read(w[2]));
                write(w[3], s.sign());
                return "";
            }
            case "verify": {
                Signature s = Signature.getInstance("SM3withSM2", "BC");
                s.initVerify(certificate(w[1]).getPublicKey());
                s.update(read(w[2]));
                if (!s.verify(read(w[3]))) throw new Exception("signature");
                return "";
            }
            case "encrypt": {
                SM2Engine engine = new SM2Engine(SM2Engine.Mode.C1C3C2);
                engine.init(true, new ParametersWithRandom(
                    PublicKeyFactory.createKey(certificate(w[1]).getPublicKey().getEncoded()), new SecureRandom()));
                byte[] plain = read(w[2]);
                byte[] raw = engine.processBlock(plain, 0, plain.length);
                ASN1EncodableVector v = new ASN1EncodableVector();
                v.add(new ASN1Integer(new BigInteger(1, Arrays.copyOfRange(raw, 1, 33))));
                v.add(new ASN1Integer(new BigInteger(1, Arrays.copyOfRange(raw, 33, 65))));
                v.add(new DEROctetString(Arrays.copyOfRange(raw, 65, 97)));
                v.add(new DEROctetString(Arrays.copyOfRange(raw, 97, raw.length)));
                write(w[3], new DERSequence(v).getEncoded("DER"));
                return "";
            }
            case "decrypt": {
                ASN1Sequence c = ASN1Sequence.getInstance(read(w[2]));
                ByteArrayOutputStream raw = new ByteArrayOutputStream();
                raw.write(4);
                for (int i = 0; i < 2; i++)
                    raw.write(org.bouncycastle.util.BigIntegers.asUnsignedByteArray(32, ASN1Integer.getInstance(c.getObjectAt(i)).getPositiveValue()));
                for (int i = 2; i < 4; i++) raw.write(ASN1OctetString.getInstance(c.getObjectAt(i)).getOctets());
                SM2Engine engine = new SM2Engine(SM2Engine.Mode.C1C3C2);
                engine.init(false, PrivateKeyFactory.createKey(key(w[1]).getEncoded()));
                write(w[3], engine.processBlock(raw.toByteArray(), 0, raw.size()));
                return "";
            }
            case "key-new": {
                KeyPairGenerator g = KeyPairGenerator.getInstance("EC", "BC");
                g.initialize(new ECGenParameterSpec("sm2p256v1"));
                pem(w[1], "PRIVATE KEY", g.generateKeyPair().getPrivate().getEncoded());
                return "";
            }
            case "key-encrypt": {
                byte[] salt = new byte[16], iv = new byte[16];
                SecureRandom random = new SecureRandom();
                random.nextBytes(salt);
                random.nextBytes(iv);
                PBKDF2Params derived = new PBKDF2Params(salt, Integer.parseInt(w[4]), 16, new AlgorithmIdentifier(GMObjectIdentifiers.hmac_sm3));
                PBES2Parameters scheme = new PBES2Parameters(
                    new KeyDerivationFunc(PKCSObjectIdentifiers.id_PBKDF2, derived),
                    new EncryptionScheme(GMObjectIdentifiers.sms4_cbc, new DEROctetString(iv)));
                byte[] under = sm4(Cipher.ENCRYPT_MODE, w[3], derived, iv).doFinal(key(w[1]).getEncoded());
                pem(w[2], "ENCRYPTED PRIVATE KEY", new EncryptedPrivateKeyInfo(
                    new AlgorithmIdentifier(PKCSObjectIdentifiers.id_PBES2, scheme), under).getEncoded());
                return "";
            }
            case "key-decrypt": {
                Object found = new PEMParser(new StringReader(new String(read(w[1]), StandardCharsets.US_ASCII))).readObject();
                EncryptedPrivateKeyInfo under = ((PKCS8EncryptedPrivateKeyInfo) found).toASN1Structure();
                if (!under.getEncryptionAlgorithm().getAlgorithm().equals(PKCSObjectIdentifiers.id_PBES2)) throw new Exception("not PBES2");
                PBES2Parameters scheme = PBES2Parameters.getInstance(under.getEncryptionAlgorithm().getParameters());
                PBKDF2Params derived = PBKDF2Params.getInstance(scheme.getKeyDerivationFunc().getParameters());
                if (!derived.getPrf().getAlgorithm().equals(GMObjectIdentifiers.hmac_sm3)) throw new Exception("another PRF");
                if (!scheme.getEncryptionScheme().getAlgorithm().equals(GMObjectIdentifiers.sms4_cbc)) throw new Exception("another cipher");
                byte[] iv = ASN1OctetString.getInstance(scheme.getEncryptionScheme().getParameters()).getOctets();
                byte[] plain = sm4(Cipher.DECRYPT_MODE, w[2], derived, iv).doFinal(under.getEncryptedData());
                PrivateKey opened = new JcaPEMKeyConverter().setProvider("BC").getPrivateKey(PrivateKeyInfo.getInstance(plain));
                if (!((ECPrivateKey) opened).getS().equals(((ECPrivateKey) key(w[3])).getS())) throw new Exception("another key");
                return "";
            }
            case "request": {
                PKCS10CertificationRequest made = new PKCS10CertificationRequestBuilder(new X500Name(w[3]), spki(key(w[1]))).build(signer(key(w[1])));
                pem(w[2], "CERTIFICATE REQUEST", made.getEncoded());
                return "";
            }
            case "request-check": {
                PKCS10CertificationRequest r = request(w[1]);
                if (!r.isSignatureValid(new JcaContentVerifierProviderBuilder().setProvider("BC").build(r.getSubjectPublicKeyInfo())))
                    throw new Exception("signature");
                return r.getSubject().toString();
            }
            case "issue": {
                PKCS10CertificationRequest r = request(w[3]);
                X509v3CertificateBuilder b = new X509v3CertificateBuilder(new X509CertificateHolder(certificate(w[2]).getEncoded()).getSubject(),
                    new BigInteger(120, new SecureRandom()).setBit(120), new Date(1767225600000L), new Date(1798761600000L), r.getSubject(), r.getSubjectPublicKeyInfo());
                b.addExtension(org.bouncycastle.asn1.x509.Extension.keyUsage, true, new KeyUsage(KeyUsage.digitalSignature | KeyUsage.nonRepudiation));
                pem(w[4], "CERTIFICATE", b.build(signer(key(w[1]))).getEncoded());
                return "";
            }
            case "chain-check": {
                CertPath path = CertificateFactory.getInstance("X.509", "BC").generateCertPath(List.of(certificate(w[1]), certificate(w[2])));
                PKIXParameters p = new PKIXParameters(Set.of(new TrustAnchor(certificate(w[3]), null)));
                p.setRevocationEnabled(false);
                p.setDate(new Date(Long.parseLong(w[4])));
                CertPathValidator.getInstance("PKIX", "BC").validate(path, p);
                return "";
            }
            case "list": {
                X509CertificateHolder ca = new X509CertificateHolder(certificate(w[2]).getEncoded());
                X509v2CRLBuilder b = new X509v2CRLBuilder(ca.getSubject(), new Date(1767225600000L));
                b.setNextUpdate(new Date(1798761600000L));
                b.addCRLEntry(certificate(w[3]).getSerialNumber(), new Date(1767225600000L), org.bouncycastle.asn1.x509.CRLReason.keyCompromise);
                pem(w[4], "X509 CRL", b.build(signer(key(w[1]))).getEncoded());
                return "";
            }
            case "list-check": {
                X509CRL list = (X509CRL) CertificateFactory.getInstance("X.509", "BC").generateCRL(new ByteArrayInputStream(read(w[1])));
                list.verify(certificate(w[2]).getPublicKey(), "BC");
                return list.isRevoked(certificate(w[3])) ? "revoked" : "good";
            }
            default:
                throw new Exception("no such command");
        }
    }

    static byte[] read(String path) throws IOException {
        return Files.readAllBytes(Path.of(path));
    }

    static void write(String path, byte[] bytes) throws IOException {
        Files.write(Path.of(path), bytes);
    }

    static void pem(String path, String label, byte[] der) throws IOException {
        String body = Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(der);
        write(path, ("-----BEGIN " + label + "-----\n" + body + "\n-----END " + label + "-----\n").getBytes(StandardCharsets.US_ASCII));
    }

    static byte[] unpem(String path) throws IOException {
        String text = new String(read(path), StandardCharsets.US_ASCII).replaceAll("-----[A-Z0-9 ]+-----", "");
        return Base64.getMimeDecoder().decode(text);
    }

    static PrivateKey key(String path) throws Exception {
        return KeyFactory.getInstance("EC", "BC").generatePrivate(new PKCS8EncodedKeySpec(unpem(path)));
    }

    static SubjectPublicKeyInfo spki(PrivateKey key) throws Exception {
        ECPrivateKey ec = (ECPrivateKey) key;
        org.bouncycastle.jce.spec.ECNamedCurveParameterSpec curve = org.bouncycastle.jce.ECNamedCurveTable.getParameterSpec("sm2p256v1");
        PublicKey made = KeyFactory.getInstance("EC", "BC").generatePublic(
            new org.bouncycastle.jce.spec.ECPublicKeySpec(curve.getG().multiply(ec.getS()).normalize(), curve));
        return SubjectPublicKeyInfo.getInstance(made.getEncoded());
    }

    static ContentSigner signer(PrivateKey key) throws Exception {
        return new JcaContentSignerBuilder("SM3WITHSM2").setProvider("BC").build(key);
    }

    static X509Certificate certificate(String path) throws Exception {
        return (X509Certificate) CertificateFactory.getInstance("X.509", "BC").generateCertificate(new ByteArrayInputStream(read(path)));
    }

    static PKCS10CertificationRequest request(String path) throws Exception {
        return new PKCS10CertificationRequest(unpem(path));
    }
}
